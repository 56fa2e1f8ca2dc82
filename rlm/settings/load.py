"""Loading: read every layer, collect every fault, and only then make the settings."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from rlm.core.errors import ConfigurationError
from rlm.settings.defaults import built_in_sections, built_in_types
from rlm.settings.document import Document
from rlm.settings.effective import Settings, settings_of
from rlm.settings.faults import Fault, faults_of, listed, show
from rlm.settings.layers import Layers
from rlm.settings.lines import located
from rlm.settings.options import with_options
from rlm.settings.rules import rule_faults
from rlm.settings.secrets import remember, secrets_of
from rlm.settings.sources import choose_file, read_environment, read_file
from rlm.settings.values import check_dsn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from rlm.settings.layers import Place

DSN_VARIABLE = "SENTRY_DSN"


def load_settings(
    path: Path | None = None, environ: Mapping[str, str] = os.environ, overrides: Sequence[str] = ()
) -> Settings:
    """Return the settings of the file at `path`, else `$RLM_CONFIG`, else `./rlm.toml`, else the built-in ones.

    Variables `RLM_<SECTION>__<KEY>`, `REDIS_URL` and `SENTRY_DSN` of `environ` go over the file's values, and over
    these the `overrides`, `KEY=VALUE` each, which a command was told with `--set`. Loading the same file in the same
    environment again gives the same `revision`, in any process.

    Raises:
        ConfigurationError: something is wrong; the message has a line for each fault, with origin, key, value and
            what is allowed.
    """
    source = choose_file(path, environ)
    layers, faults = _layers(source, environ)
    layers, misread = with_options(layers, overrides)
    faults += misread
    document, wrong = _validate(layers)
    faults += [*wrong, *rule_faults(layers, frozenset(fault.place for fault in wrong), environ)]
    dsn = environ.get(DSN_VARIABLE) or None
    faults += _dsn_faults(dsn)
    if document is None or faults:
        raise ConfigurationError(listed(located(faults, source)))
    settings = settings_of(document, layers, dsn)
    remember(secrets_of(settings, environ))
    return settings


def load_sound(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings | None:
    """Return the settings without the sections in which something is wrong, to look at Redis with and at no more.

    None where the file cannot be read, where it is `redis` that is wrong, or where what is left does not fit together.
    """
    try:
        layers, faults = _layers(choose_file(path, environ), environ)
    except ConfigurationError:
        return None
    _, wrong = _validate(layers)
    faults += [*wrong, *rule_faults(layers, frozenset(fault.place for fault in wrong), environ)]
    bad = {str(fault.place[0]) for fault in faults if fault.place}
    if "redis" in bad:
        return None
    bad |= {"types", "budgets"} if bad & {"types", "budgets"} else set()  # one names the other
    file = _without(layers.file, bad)
    built_in = built_in_sections() if "types" in file else {**built_in_sections(), "types": built_in_types()}
    sound = Layers(_without(layers.environment, bad), layers.variables, file, layers.source, built_in)
    document, wrong = _validate(sound)
    if document is None or wrong or any(rule_faults(sound, frozenset(), environ)):
        return None
    settings = settings_of(document, sound, None)
    remember(secrets_of(settings, environ))
    return settings


def _without(tables: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: table for name, table in tables.items() if name not in names}


def _layers(source: Path | None, environ: Mapping[str, str]) -> tuple[Layers, list[Fault]]:
    file = read_file(source) if source else {}
    built_in = built_in_sections()
    if "types" not in file:
        built_in["types"] = built_in_types()
    configured = Layers({}, {}, file, source, built_in)
    values, variables, faults = read_environment(environ, _tables(configured.types), _tables(configured.budgets))
    overrides: dict[Any, Any] = {}
    for place, value in values.items():
        # Over something that is no table an override would hide that fault of the file.
        if isinstance(file.get(str(place[0]), {}), dict):
            _put(overrides, place, value)
    return Layers(overrides, variables, file, source, built_in), faults


def _tables(named: Mapping[str, Any]) -> list[str]:
    return [name for name, table in named.items() if isinstance(table, dict)]


def _put(tables: dict[Any, Any], place: Place, value: Any) -> None:
    *parents, key = place
    for parent in parents:
        tables = tables.setdefault(parent, {})
    tables[key] = value


def _validate(layers: Layers) -> tuple[Document | None, list[Fault]]:
    try:
        return Document.merge(layers.tables), []
    except ValidationError as error:
        return None, list(faults_of(error, layers))


def _dsn_faults(dsn: str | None) -> Iterator[Fault]:
    if dsn is None:
        return
    try:
        check_dsn(dsn)
    except ValueError as error:
        yield Fault((), "environment", f"{DSN_VARIABLE} = {show((DSN_VARIABLE,), dsn)}", str(error))
