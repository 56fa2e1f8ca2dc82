"""The effective settings, frozen and typed: merged from all layers, created only if there is no fault."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import structs

from rlm.core.endpoint import Budget, Endpoint, EventType, Limit, Success
from rlm.core.errors import ConfigurationError
from rlm.core.text import one_line
from rlm.settings import rules, secrets
from rlm.settings.addresses import check_endpoint_url
from rlm.settings.layers import Layers, layered, leaves, masked
from rlm.settings.model import Document
from rlm.settings.section import Problem, as_tables, read_table
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
#: The parts of the configuration that workers depend on; a revision has so many digits for each.
_PARTS = ("types", "retry", "queue", "run.guard_seconds", "workers.threads")
_DIGITS = 6
_LISTS = ("events", "processing", "failed")


class Shown(msgspec.Struct, frozen=True):
    """A setting for display: its key, its value with secrets masked, and its origin."""

    key: str
    value: Any
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole configuration. Its representation shows no secret; `shown` is for people, the rest for programs.

    `event_types` are ordered by descending priority, equal ones as configured. `endpoints` has each endpoint by name,
    as in the first of those types that lists it. Types that share an endpoint may differ in headers, time-out and
    success, so take the endpoint from the type whose event is sent. `budgets` has the shared limits by name. `revision`
    has digests of what workers depend on. `home` is the directory of the configuration file, or the current directory
    without a file; `data_dir` is where RLM keeps files.
    """

    redis: model.RedisSettings
    queue: model.QueueSettings
    run: model.RunSettings
    workers: model.WorkersSettings
    host: model.HostSettings
    retry: model.RetrySettings
    archive: model.ArchiveSettings
    alarm: model.AlarmSettings
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
        """Where dead letters are archived on this host."""
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
    source = choose_file(path, environ)
    layers = read_file(source) if source else layered({})
    put_environment(layers, environ)
    put_options(layers, overrides)
    layers.faults.extend(_environment_faults(environ))
    wrong: list[Problem] = []
    document = read_table(Document, layers.tables, (), wrong)
    layers.refuse(wrong)
    layers.refuse(list(rules.problems(layers, environ)))
    if layers.faults:
        raise ConfigurationError(layers.listed())
    settings = _settings_of(document, layers, environ)
    secrets.remember(secrets_of(settings, environ))
    return settings


def _environment_faults(environ: Mapping[str, str]) -> Iterator[str]:
    try:
        check_dsn(environ.get(_DSN_VARIABLE) or "https://key@host/1")
    except ValueError as error:
        yield f"environment {_DSN_VARIABLE}: {error}"
    for variable, (allowed, problem) in _LOGGING.items():
        if (value := environ.get(variable, "")) and value.upper() not in allowed:
            yield f'environment {variable} = "{one_line(value, 40)}": {problem}'


def _settings_of(document: Document, layers: Layers, environ: Mapping[str, str]) -> Settings:
    """Return the settings of a document without faults."""
    home = layers.source.parent if layers.source else current_directory()
    sentry_dsn = environ.get(_DSN_VARIABLE) or None
    tables = as_tables(document)
    budgets = {name: Budget(name, Limit.parse(budget.rate_limit)) for name, budget in document.budgets.items()}
    event_types = _event_types(document, budgets, environ)
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


def _event_types(
    document: Document, budgets: Mapping[str, Budget], environ: Mapping[str, str]
) -> tuple[EventType, ...]:
    types = []
    for name, described in document.types.items():
        limit = described.rate_limit
        endpoints = tuple(
            Endpoint(
                name=endpoint.name,
                url=check_endpoint_url(secrets.resolve_url(endpoint.url, environ)),
                limit=Limit.parse(endpoint.rate_limit or str(limit)),  # the rules require one of the two
                timeout_seconds=endpoint.timeout_seconds or document.retry.timeout_seconds,
                headers=endpoint.headers,
                budget=budgets[endpoint.budget] if endpoint.budget else None,
                success=_success(endpoint.success or described.success),
            )
            for endpoint in described.endpoints
        )
        own = Limit.parse(limit) if limit else None
        types.append(EventType(name, described.priority, described.processing_seconds, endpoints, described.share, own))
    return tuple(sorted(types, key=lambda event_type: -event_type.priority))


def _success(described: model.SuccessSettings | None) -> Success | None:
    return Success(**structs.asdict(described)) if described else None


def _by_name(event_types: tuple[EventType, ...]) -> dict[str, Endpoint]:
    endpoints: dict[str, Endpoint] = {}
    for event_type in event_types:
        for endpoint in event_type.endpoints:
            endpoints.setdefault(endpoint.name, endpoint)
    return endpoints


def _revision(tables: Mapping[str, Any], event_types: tuple[EventType, ...]) -> str:
    """Return the digests of the `_PARTS`. They exclude where Redis is, and values of secret headers."""
    parts = (
        [_facts(event_type) for event_type in event_types],
        tables["retry"],
        [{key: value for key, value in tables["queue"].items() if key != "failed_max"}, tables["redis"]["prefix"]],
        tables["run"]["guard_seconds"],
        tables["workers"]["threads"],
    )
    digests = (hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest() for part in parts)
    return "".join(digest[:_DIGITS] for digest in digests)


def apart_of(event_types: Iterable[EventType]) -> str:
    """Return a digest of the types and their URLs: schedulers in which it differs keep apart on one prefix."""
    calls = sorted((kind.name, [one.url for one in kind.endpoints]) for kind in event_types)
    return hashlib.sha256(json.dumps(calls).encode()).hexdigest()[:16]


def differing(revision: str, other: str) -> list[str]:
    """Return the parts of the configuration in which two revisions differ."""
    starts = range(0, len(_PARTS) * _DIGITS, _DIGITS)
    at = zip(_PARTS, starts, strict=True)
    return [part for part, start in at if revision[start : start + _DIGITS] != other[start : start + _DIGITS]]


def _facts(event_type: EventType) -> list[Any]:
    endpoints = []
    for one in event_type.endpoints:
        budget = [one.budget.name, one.budget.limit.text] if one.budget else []
        success = structs.asdict(one.success) if one.success else {}
        endpoints.append([one.name, one.url, one.limit.text, one.timeout_seconds, one.headers, budget, success])
    return [event_type.name, event_type.priority, event_type.processing_seconds, event_type.share, endpoints]


def _shown(tables: Mapping[str, Any], layers: Layers, dsn: str | None) -> Iterator[Shown]:
    for place, value in leaves(tables):
        yield Shown(dotted(place), masked(place, value), layers.where(place))
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
    return secrets.Secrets(_secret_values(settings, environ))


def _secret_values(settings: Settings, environ: Mapping[str, str]) -> Iterator[str]:
    yield from secrets.url_secrets(settings.redis.url)
    yield from secrets.url_secrets(settings.sentry_dsn or "")
    yield secrets.from_environment(settings.web.token, environ)
    for endpoint in (endpoint for described in settings.types.values() for endpoint in described.endpoints):
        yield from (environ.get(name, "") for name in secrets.VARIABLE.findall(endpoint.url))
        for value in endpoint.headers.values():
            if value.startswith(secrets.FROM_ENVIRONMENT):
                yield from secrets.header_secrets(secrets.from_environment(value, environ))
