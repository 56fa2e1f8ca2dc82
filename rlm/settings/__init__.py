"""The effective settings, frozen and typed: merged from all layers, created only if there is no fault."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from rlm.core.endpoint import Budget, Endpoint, EventType, Limit, Success
from rlm.core.errors import ConfigurationError
from rlm.settings import model, rules, secrets
from rlm.settings.checks import check_endpoint_url
from rlm.settings.layers import Layers, layers_of, leaves, masked
from rlm.settings.toml import dotted

#: The parts of the configuration that workers depend on; a revision has so many digits for each.
_PARTS = ("types", "retry", "queue", "run.guard_seconds", "workers.threads")
_DIGITS = 6


class Shown(msgspec.Struct, frozen=True):
    """A setting for display: its key, its value with secrets masked, and its origin."""

    key: str
    value: Any
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole configuration. Its representation shows no secret; `shown` is for people, the rest for programs.

    `event_types` are ordered by descending priority, equal ones as configured. `endpoints` has each endpoint by name.
    Types that share an endpoint may differ in headers, time-out and success, so take it from the type whose event is
    sent. `revision` has digests of what workers depend on. `home` is the directory of the configuration file, or the
    current directory without a file; `data_dir` is where RLM keeps files.
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
        ConfigurationError: there are faults; the message has a line for each, with origin, key, value, what is allowed.
    """
    layers = layers_of(path, environ)
    layers.put_environment(environ)
    layers.put_options(overrides)
    document = layers.read()
    for place, problem in rules.problems(document, environ):
        layers.refuse(place, problem)
    if layers.faults:
        raise ConfigurationError("\n".join(layers.faults[:100]))
    settings = _settings_of(document, layers, environ)
    secrets.remember(secrets_of(settings, environ))
    return settings


def salvaged(path: Path | None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the built-in settings with the section `[redis]` of a file that has faults elsewhere, to see who lives.

    Raises:
        ConfigurationError: that section has faults as well, or the file cannot be read.
    """
    file = layers_of(path, environ)
    layers = Layers({"redis": file.tables.get("redis", {})}, file.source)
    layers.put_environment({name: text for name, text in environ.items() if "REDIS_" in name})
    document = layers.read()
    if layers.faults:
        raise ConfigurationError("\n".join(layers.faults))
    return _settings_of(document, layers, environ)


def _settings_of(document: model.Document, layers: Layers, environ: Mapping[str, str]) -> Settings:
    """Return the settings of a document without faults."""
    home = layers.source.parent if layers.source else Path.cwd()
    dsn = environ.get("SENTRY_DSN") or None
    budgets = {name: Budget(name, Limit.parse(budget.rate_limit)) for name, budget in document.budgets.items()}
    kinds = [_event_type(name, document, budgets, environ) for name in document.types]
    event_types = tuple(sorted(kinds, key=lambda kind: -kind.priority))
    endpoints: dict[str, Endpoint] = {}
    for endpoint in (endpoint for kind in event_types for endpoint in kind.endpoints):
        endpoints.setdefault(endpoint.name, endpoint)
    shown = [
        Shown(dotted(at), masked(at, value), layers.where(at)) for at, value in leaves(msgspec.to_builtins(document))
    ]
    shown.append(Shown("sentry_dsn", dsn and secrets.MASK, "environment SENTRY_DSN" if dsn else "default"))
    return Settings(
        **{**structs.asdict(document), "budgets": budgets},  # the sections and the types unchanged
        event_types=event_types,
        endpoints=endpoints,
        revision=_revision(document, event_types),
        home=home,
        data_dir=home / (environ.get("RLM_DATA_DIR") or ".rlm"),
        source=layers.source,
        sentry_dsn=dsn,
        shown=tuple(shown),
    )


def _event_type(
    name: str, document: model.Document, budgets: Mapping[str, Budget], environ: Mapping[str, str]
) -> EventType:
    kind = document.types[name]
    endpoints = []
    for endpoint in kind.endpoints:
        success = endpoint.success or kind.success
        endpoints.append(
            Endpoint(
                name=endpoint.name,
                url=check_endpoint_url(secrets.resolve_url(endpoint.url, environ)),
                limit=Limit.parse(endpoint.rate_limit or kind.rate_limit or ""),  # the rules require one of the two
                timeout_seconds=endpoint.timeout_seconds or document.retry.timeout_seconds,
                headers=endpoint.headers,
                budget=budgets[endpoint.budget] if endpoint.budget else None,
                success=Success(**structs.asdict(success)) if success else None,
            )
        )
    own = Limit.parse(kind.rate_limit) if kind.rate_limit else None
    return EventType(name, kind.priority, kind.processing_seconds, tuple(endpoints), kind.share, own)


def _revision(document: model.Document, event_types: tuple[EventType, ...]) -> str:
    """Return the digests of the `_PARTS`. They exclude where Redis is, and values of secret headers."""
    queue, retry = structs.asdict(document.queue), structs.asdict(document.retry)
    parts = (event_types, retry, [queue, document.redis.prefix], document.run.guard_seconds, document.workers.threads)
    return "".join(map(_digest, parts))


def _digest(part: Any, digits: int = _DIGITS) -> str:
    return hashlib.sha256(msgspec.json.encode(part, order="sorted")).hexdigest()[:digits]


def apart_of(event_types: Iterable[EventType]) -> str:
    """Return a digest of the types and their URLs: schedulers in which it differs keep apart on one prefix."""
    return _digest(sorted((kind.name, [each.url for each in kind.endpoints]) for kind in event_types), 16)


def differing(revision: str, other: str) -> list[str]:
    """Return the parts of the configuration in which two revisions differ."""
    slices = [slice(start, start + _DIGITS) for start in range(0, len(_PARTS) * _DIGITS, _DIGITS)]
    return [part for part, at in zip(_PARTS, slices, strict=True) if revision[at] != other[at]]


def settings_under(settings: Settings, prefix: str) -> Settings:
    """Return `settings` with all keys, including the three lists, under `prefix`."""
    lists = {name: f"{prefix}_{name}" for name in ("events", "processing", "failed")}
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
    yield secrets.resolve(settings.web.token, environ)
    for endpoint in (endpoint for described in settings.types.values() for endpoint in described.endpoints):
        yield from (environ.get(name, "") for name in secrets.VARIABLE.findall(endpoint.url))
        for value in endpoint.headers.values():
            if value.startswith(secrets.FROM_ENVIRONMENT):
                yield from secrets.header_secrets(secrets.resolve(value, environ))
