"""The settings that hold, as the rest of RLM uses them: frozen and typed, with their types and endpoints."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from rlm.core.endpoint import Budget, Endpoint, EventType, Limit
from rlm.settings.document import leaves
from rlm.settings.secrets import (
    FROM_ENVIRONMENT,
    MASK,
    Secrets,
    from_environment,
    is_plain,
    is_secret,
    mask_value,
    parts_of,
    url_secrets,
)
from rlm.settings.sources import current_directory
from rlm.settings.toml import dotted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from rlm.settings.document import Document, Layers
    from rlm.settings.model import (
        ArchiveSettings,
        EndpointSettings,
        QueueSettings,
        RedisSettings,
        RetrySettings,
        RunSettings,
        TypeSettings,
        WebSettings,
        WorkersSettings,
    )

_DATA_FOLDER = ".rlm"
_REVISION_DIGITS = 12
_LISTS = ("events", "processing", "failed")
#: Headers whose values are no secrets: what the client understands.
_HARMLESS_HEADERS = frozenset({"accept", "accept-encoding", "accept-language", "cache-control"})


@dataclass(frozen=True, slots=True)
class Shown:
    """A setting for display: its key, its value with secrets masked, its origin."""

    key: str
    value: Any
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole configuration. Its representation shows no secret; `shown` is for people, the rest for programs.

    `event_types` go from the highest priority to the lowest, equal ones in the configured order. `endpoints` has each
    endpoint by name, from the first of those types that has it. Types that share an endpoint may differ in headers and
    time-out, so take it from the type to call it. `budgets` has the limits that endpoints share, by name. `revision`
    is a digest of what workers depend on; `data_dir` is where RLM keeps files.
    """

    redis: RedisSettings
    queue: QueueSettings
    run: RunSettings
    workers: WorkersSettings
    retry: RetrySettings
    archive: ArchiveSettings
    web: WebSettings
    types: Mapping[str, TypeSettings]
    event_types: tuple[EventType, ...] = field(repr=False)
    endpoints: Mapping[str, Endpoint] = field(repr=False)
    budgets: Mapping[str, Budget]
    revision: str
    data_dir: Path
    source: Path | None
    sentry_dsn: str | None = field(repr=False)
    shown: tuple[Shown, ...] = field(repr=False)

    @property
    def archive_dir(self) -> Path:
        """Where run records and dead letters are archived on this host."""
        return self.data_dir.parent / (self.archive.directory or f"{_DATA_FOLDER}/archive")


def settings_of(document: Document, layers: Layers, sentry_dsn: str | None) -> Settings:
    """Return the settings of a faultless document."""
    budgets = {name: Budget(name, Limit.parse(one.rate_limit)) for name, one in document.budgets.items()}
    event_types = _event_types(document, budgets)
    return Settings(
        redis=document.redis,
        queue=document.queue,
        run=document.run,
        workers=document.workers,
        retry=document.retry,
        archive=document.archive,
        web=document.web,
        types=document.types,
        event_types=event_types,
        endpoints=_by_name(event_types),
        budgets=budgets,
        revision=_revision(document, event_types),
        data_dir=(layers.source.parent if layers.source else current_directory()) / _DATA_FOLDER,
        source=layers.source,
        sentry_dsn=sentry_dsn,
        shown=tuple(_shown(document, layers, sentry_dsn)),
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
    endpoint: EndpointSettings, event_type: TypeSettings, retry: RetrySettings, budgets: Mapping[str, Budget]
) -> Endpoint:
    return Endpoint(
        name=endpoint.name,
        url=endpoint.url,
        limit=Limit.parse(endpoint.rate_limit or str(event_type.rate_limit)),  # the rules require one of them
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


def _revision(document: Document, event_types: tuple[EventType, ...]) -> str:
    """Digest what a worker depends on: not where Redis is, and of a secret header only the variable's name."""
    facts = [
        [_facts(event_type) for event_type in event_types],
        document.retry.model_dump(),
        document.queue.model_dump(exclude={"failed_max", "failed_max_bytes"}),
        document.redis.prefix,
        document.run.guard_seconds,
        document.workers.threads,
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:_REVISION_DIGITS]


def _facts(event_type: EventType) -> list[Any]:
    endpoints = []
    for one in event_type.endpoints:
        budget = [one.budget.name, one.budget.limit.text] if one.budget else []
        endpoints.append([one.name, one.url, one.limit.text, one.timeout_seconds, one.headers, budget])
    return [event_type.name, event_type.priority, event_type.processing_seconds, event_type.share, endpoints]


def _shown(document: Document, layers: Layers, dsn: str | None) -> Iterator[Shown]:
    for place, value in leaves(document.model_dump(exclude_none=True)):
        yield Shown(dotted(place), mask_value(place, value), layers.where(place))
    yield Shown("sentry_dsn", MASK if dsn else None, "environment SENTRY_DSN" if dsn else "default")


def settings_under(settings: Settings, prefix: str) -> Settings:
    """Return `settings` with all keys, the three lists included, under `prefix`."""
    lists = {name: f"{prefix}_{name}" for name in _LISTS}
    return replace(
        settings,
        redis=settings.redis.model_copy(update={"prefix": prefix}),
        queue=settings.queue.model_copy(update=lists),
    )


def secrets_of(settings: Settings, environ: Mapping[str, str]) -> Secrets:
    """Return the secrets in URLs, headers, the web token and Sentry's DSN, those in environment variables as well."""
    return Secrets(_secret_values(settings, environ))


def _secret_values(settings: Settings, environ: Mapping[str, str]) -> Iterator[str]:
    yield from url_secrets(settings.redis.url)
    yield from url_secrets(settings.sentry_dsn or "")
    yield from_environment(settings.web.token, environ)
    for endpoint in (one for event_type in settings.event_types for one in event_type.endpoints):
        yield from url_secrets(endpoint.url)
        for name, value in endpoint.headers.items():
            harmless = name.lower() in _HARMLESS_HEADERS or is_plain(value)
            if value.startswith(FROM_ENVIRONMENT) or is_secret(name) or not harmless:
                yield from parts_of(from_environment(value, environ))
