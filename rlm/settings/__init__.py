"""The effective settings, frozen and typed: merged from all layers, created only if there is no fault."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import structs

from rlm.core.endpoint import Budget, Endpoint, EventType, Limit
from rlm.core.errors import ConfigurationError
from rlm.core.text import one_line
from rlm.settings import secrets
from rlm.settings.document import Document, Layers, layered, leaves
from rlm.settings.faults import Fault, faults_of, listed, show
from rlm.settings.kinds import Flaw, as_tables
from rlm.settings.rules import rule_faults
from rlm.settings.sources import choose_file, current_directory, put_environment, put_options, read_file
from rlm.settings.toml import dotted
from rlm.settings.values import check_dsn

if TYPE_CHECKING:
    from rlm.settings import model

_DSN_VARIABLE = "SENTRY_DSN"
#: What the variables about log lines (rlm/telemetry/logs.py) may be, in any case, and what to say otherwise.
_LOGGING = {
    "RLM_LOG": (frozenset(logging.getLevelNamesMapping()), "must be DEBUG, INFO, WARNING or ERROR"),
    "RLM_LOG_FORMAT": (frozenset({"AUTO", "TEXT", "JSON"}), "must be auto, text or json"),
}
_DATA_VARIABLE = "RLM_DATA_DIR"
_DATA_FOLDER = ".rlm"
_REVISION_DIGITS = 12
_LISTS = ("events", "processing", "failed")
#: Headers whose values are not secret; they say what the client accepts.
_HARMLESS_HEADERS = frozenset({"accept", "accept-encoding", "accept-language", "cache-control"})


class Shown(msgspec.Struct, frozen=True):
    """A setting for display: its key, its value with secrets masked, and its origin."""

    key: str
    value: Any
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole configuration. Its representation shows no secret; `shown` is for people, the rest for programs.

    `event_types` are ordered by descending priority, equal ones as configured. `endpoints` has each endpoint by name,
    as in the first of those types that lists it. Types that share an endpoint may differ in headers and time-out, so
    take the endpoint from the type whose event is sent. `budgets` has the shared limits by name. `revision` is a digest
    of what workers depend on. `home` is the directory of the configuration file, or the current directory without a
    file; `data_dir` is where RLM keeps files.
    """

    redis: model.RedisSettings
    queue: model.QueueSettings
    run: model.RunSettings
    workers: model.WorkersSettings
    host: model.HostSettings
    retry: model.RetrySettings
    archive: model.ArchiveSettings
    web: model.WebSettings
    types: Mapping[str, model.TypeSettings]
    event_types: tuple[EventType, ...] = field(repr=False)
    endpoints: Mapping[str, Endpoint] = field(repr=False)
    budgets: Mapping[str, Budget]
    revision: str
    home: Path
    data_dir: Path
    source: Path | None
    sentry_dsn: str | None = field(repr=False)
    shown: tuple[Shown, ...] = field(repr=False)

    @property
    def host_name(self) -> str:
        """The name of this host. Its processes announce it, and their ids begin with it."""
        return self.host.name or os.uname().nodename

    @property
    def capacity(self) -> int:
        """The most workers on this host."""
        return self.workers.max_here or self.workers.max

    @property
    def archive_dir(self) -> Path:
        """Where run records and dead letters are archived on this host."""
        return self.home / self.archive.directory if self.archive.directory else self.data_dir / "archive"


def load_settings(
    path: Path | None = None, environ: Mapping[str, str] = os.environ, overrides: Sequence[str] = ()
) -> Settings:
    """Return the settings of the file at `path`, else `$RLM_CONFIG`, else `./rlm.toml`, else the built-in ones.

    The variables `RLM_<SECTION>__<KEY>`, `REDIS_URL` and `SENTRY_DSN` of `environ` override the file; `overrides`
    (`KEY=VALUE` each, from `--set`) override both. The same file and environment give the same `revision` in every
    process.

    Raises:
        ConfigurationError: there are faults; the message has one line per fault, with origin, key, value and the
            allowed values.
    """
    layers = _read(path, environ)
    faults = [*put_environment(layers, environ), *put_options(layers, overrides)]
    document, wrong = _validated(layers, environ)
    dsn = environ.get(_DSN_VARIABLE) or None
    faults += [*wrong, *_dsn_faults(dsn), *_logging_faults(environ)]
    if document is None or faults:
        raise ConfigurationError(listed(faults, layers))
    return _remembered(_settings_of(document, layers, environ), environ)


def load_sound(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings | None:
    """Return the settings without the faulty sections, for reading Redis only.

    None if the file cannot be read, if `redis` is faulty, or if the remaining sections contradict each other.
    """
    try:
        layers = _read(path, environ)
    except ConfigurationError:
        return None
    faults = [*put_environment(layers, environ), *_validated(layers, environ)[1]]
    bad = {str(fault.place[0]) for fault in faults if fault.place}
    if "redis" in bad:
        return None
    bad |= {"types", "budgets"} if bad & {"types", "budgets"} else set()  # endpoints of types name budgets
    sound = layered({name: table for name, table in layers.tables.items() if name not in bad}, layers.source)
    document, wrong = _validated(sound, environ)
    unreported = {**environ, _DSN_VARIABLE: ""}
    return None if document is None or wrong else _remembered(_settings_of(document, sound, unreported), environ)


def _read(path: Path | None, environ: Mapping[str, str]) -> Layers:
    source = choose_file(path, environ)
    return read_file(source) if source else layered({})


def _validated(layers: Layers, environ: Mapping[str, str]) -> tuple[Document | None, list[Fault]]:
    """Return the document (None if a value is wrong by itself) and all faults, including those between settings."""
    flaws: list[Flaw] = []
    document = Document.read(layers.tables, (), flaws)
    wrong = list(faults_of(flaws, layers))
    sound = replace(layers, faulty=frozenset(fault.place for fault in wrong))
    return document, [*wrong, *rule_faults(sound, environ)]


def _dsn_faults(dsn: str | None) -> Iterator[Fault]:
    if dsn is None:
        return
    try:
        check_dsn(dsn)
    except ValueError as error:
        yield Fault((), "environment", f"{_DSN_VARIABLE} = {show((_DSN_VARIABLE,), dsn)}", str(error))


def _logging_faults(environ: Mapping[str, str]) -> Iterator[Fault]:
    for variable, (allowed, problem) in _LOGGING.items():
        if (value := environ.get(variable, "")) and value.upper() not in allowed:
            yield Fault((), "environment", f'{variable} = "{one_line(value, 40)}"', problem)


def _remembered(settings: Settings, environ: Mapping[str, str]) -> Settings:
    secrets.remember(secrets_of(settings, environ))
    return settings


def _settings_of(document: Document, layers: Layers, environ: Mapping[str, str]) -> Settings:
    """Return the settings of a document without faults."""
    home = layers.source.parent if layers.source else current_directory()
    sentry_dsn = environ.get(_DSN_VARIABLE) or None
    tables = as_tables(document)
    budgets = {name: Budget(name, Limit.parse(one.rate_limit)) for name, one in document.budgets.items()}
    event_types = _event_types(document, budgets)
    return Settings(
        **{**structs.asdict(document), "budgets": budgets},  # the sections and the types unchanged
        event_types=event_types,
        endpoints=_by_name(event_types),
        revision=_revision(tables, event_types),
        home=home,
        data_dir=home / (environ.get(_DATA_VARIABLE) or _DATA_FOLDER),
        source=layers.source,
        sentry_dsn=sentry_dsn,
        shown=tuple(_shown(tables, layers, sentry_dsn)),
    )


def _event_types(document: Document, budgets: Mapping[str, Budget]) -> tuple[EventType, ...]:
    types = (
        EventType(
            name,
            described.priority,
            described.processing_seconds,
            tuple(_endpoint(endpoint, described, document.retry, budgets) for endpoint in described.endpoints),
            described.share,
            Limit.parse(described.rate_limit) if described.rate_limit else None,
        )
        for name, described in document.types.items()
    )
    return tuple(sorted(types, key=lambda event_type: -event_type.priority))


def _endpoint(
    endpoint: model.EndpointSettings,
    event_type: model.TypeSettings,
    retry: model.RetrySettings,
    budgets: Mapping[str, Budget],
) -> Endpoint:
    return Endpoint(
        name=endpoint.name,
        url=endpoint.url,
        limit=Limit.parse(endpoint.rate_limit or str(event_type.rate_limit)),  # the rules require one of the two
        timeout_seconds=endpoint.timeout_seconds or retry.timeout_seconds,
        headers=endpoint.headers,
        budget=budgets[endpoint.budget] if endpoint.budget else None,
    )


def _by_name(event_types: tuple[EventType, ...]) -> dict[str, Endpoint]:
    endpoints: dict[str, Endpoint] = {}
    for event_type in event_types:
        for endpoint in event_type.endpoints:
            endpoints.setdefault(endpoint.name, endpoint)
    return endpoints


def _revision(tables: Mapping[str, Any], event_types: tuple[EventType, ...]) -> str:
    """Return a digest of what a worker depends on. It excludes where Redis is, and values of secret headers."""
    facts = [
        [_facts(event_type) for event_type in event_types],
        tables["retry"],
        {key: value for key, value in tables["queue"].items() if key not in {"failed_max", "failed_max_bytes"}},
        tables["redis"]["prefix"],
        tables["run"]["guard_seconds"],
        tables["workers"]["threads"],
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:_REVISION_DIGITS]


def _facts(event_type: EventType) -> list[Any]:
    endpoints = []
    for one in event_type.endpoints:
        budget = [one.budget.name, one.budget.limit.text] if one.budget else []
        endpoints.append([one.name, one.url, one.limit.text, one.timeout_seconds, one.headers, budget])
    return [event_type.name, event_type.priority, event_type.processing_seconds, event_type.share, endpoints]


def _shown(tables: Mapping[str, Any], layers: Layers, dsn: str | None) -> Iterator[Shown]:
    for place, value in leaves(tables):
        yield Shown(dotted(place), secrets.mask_value(place, value), layers.where(place))
    yield Shown("sentry_dsn", secrets.MASK if dsn else None, "environment SENTRY_DSN" if dsn else "default")


def settings_under(settings: Settings, prefix: str) -> Settings:
    """Return `settings` with all keys, including the three lists, under `prefix`."""
    lists = {name: f"{prefix}_{name}" for name in _LISTS}
    return replace(
        settings,
        redis=structs.replace(settings.redis, prefix=prefix),
        queue=structs.replace(settings.queue, **lists),
    )


def secrets_of(settings: Settings, environ: Mapping[str, str]) -> secrets.Secrets:
    """Return the secrets in URLs, headers, the web token and Sentry's DSN, including those in the environment."""
    names = (*settings.types, *settings.endpoints, *settings.budgets)
    return secrets.Secrets(_secret_values(settings, environ), names=names)


def _secret_values(settings: Settings, environ: Mapping[str, str]) -> Iterator[str]:
    yield from secrets.url_secrets(settings.redis.url)
    yield from secrets.url_secrets(settings.sentry_dsn or "")
    yield secrets.from_environment(settings.web.token, environ)
    for endpoint in (one for event_type in settings.event_types for one in event_type.endpoints):
        yield from secrets.url_secrets(endpoint.url)
        for name, value in endpoint.headers.items():
            harmless = name.lower() in _HARMLESS_HEADERS or secrets.is_plain(value)
            if value.startswith(secrets.FROM_ENVIRONMENT) or secrets.is_secret(name) or not harmless:
                yield from secrets.parts_of(secrets.from_environment(value, environ))
