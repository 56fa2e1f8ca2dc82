"""Loading: read all layers, collect all faults, and make the settings only if there is none."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from rlm.core.errors import ConfigurationError
from rlm.settings.document import Document, Layers, built_in
from rlm.settings.effective import Settings, secrets_of, settings_of
from rlm.settings.faults import Fault, faults_of, listed, show
from rlm.settings.rules import rule_faults
from rlm.settings.secrets import remember
from rlm.settings.sources import choose_file, read_file, with_environment, with_options
from rlm.settings.values import check_dsn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


_DSN_VARIABLE = "SENTRY_DSN"


def load_settings(
    path: Path | None = None, environ: Mapping[str, str] = os.environ, overrides: Sequence[str] = ()
) -> Settings:
    """Return the settings of the file at `path`, else `$RLM_CONFIG`, else `./rlm.toml`, else the built-in ones.

    Variables `RLM_<SECTION>__<KEY>`, `REDIS_URL` and `SENTRY_DSN` of `environ` override the file, and `overrides`
    (`KEY=VALUE` each, from `--set`) override both. The same file in the same environment gives the same `revision`, in
    any process.

    Raises:
        ConfigurationError: something is wrong; the message has a line for each fault, with origin, key, value and
            what is allowed.
    """
    layers, misread = with_environment(_from_file(path, environ), environ)
    layers, mistold = with_options(layers, overrides)
    document, wrong = _validated(layers, environ)
    dsn = environ.get(_DSN_VARIABLE) or None
    faults = [*misread, *mistold, *wrong, *_dsn_faults(dsn)]
    if document is None or faults:
        raise ConfigurationError(listed(faults, layers.source))
    settings = settings_of(document, layers, dsn)
    remember(secrets_of(settings, environ))
    return settings


def load_sound(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings | None:
    """Return the settings without the faulty sections, for reading Redis and nothing else.

    None if the file cannot be read, if `redis` is faulty, or if what is left does not fit together.
    """
    try:
        layers, faults = with_environment(_from_file(path, environ), environ)
    except ConfigurationError:
        return None
    faults += _validated(layers, environ)[1]
    bad = {str(fault.place[0]) for fault in faults if fault.place}
    if "redis" in bad:
        return None
    bad |= {"types", "budgets"} if bad & {"types", "budgets"} else set()  # one names the other
    file = _without(layers.file, bad)
    sound = replace(layers, file=file, built_in=built_in(file), environment=_without(layers.environment, bad))
    document, wrong = _validated(sound, environ)
    if document is None or wrong:
        return None
    settings = settings_of(document, sound, None)
    remember(secrets_of(settings, environ))
    return settings


def _without(tables: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: table for name, table in tables.items() if name not in names}


def _from_file(path: Path | None, environ: Mapping[str, str]) -> Layers:
    source = choose_file(path, environ)
    file = read_file(source) if source else {}
    return Layers(file, source, built_in(file))


def _validated(layers: Layers, environ: Mapping[str, str]) -> tuple[Document | None, list[Fault]]:
    """Return the document unless a value is wrong by itself, and all faults, those between settings included."""
    document, wrong = None, []
    try:
        document = Document.model_validate(layers.merged())
    except ValidationError as error:
        wrong = list(faults_of(error, layers))
    return document, [*wrong, *rule_faults(layers, frozenset(fault.place for fault in wrong), environ)]


def _dsn_faults(dsn: str | None) -> Iterator[Fault]:
    if dsn is None:
        return
    try:
        check_dsn(dsn)
    except ValueError as error:
        yield Fault((), "environment", f"{_DSN_VARIABLE} = {show((_DSN_VARIABLE,), dsn)}", str(error))
