"""The effective settings, frozen and typed: merged from all layers, created only if there is no fault."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from rlm.core.endpoint import Budget, Endpoint, EventType, Limit
from rlm.core.errors import ConfigurationError
from rlm.settings import model, secrets
from rlm.settings.layers import Layers, Place, did_you_mean, dotted, layers_of, leaves, masked
from rlm.settings.model import check_endpoint_url

#: The parts of the configuration that workers depend on; a revision has so many digits for each.
_PARTS, _DIGITS = ("types", "retry", "queue", "run.guard_seconds", "workers.threads"), 6
#: A call takes a slot in each window of its budget in one step of Redis, which grows with their number.
_MOST_OF_A_BUDGET = 100


class Shown(msgspec.Struct, frozen=True):
    """A setting for display: its value with secrets masked, and its origin."""

    value: Any
    where: str = msgspec.field(name="from")


class Settings(model.Document, frozen=True, kw_only=True):
    """The whole configuration. Its representation shows no secret; `shown` is for people, the rest for programs.

    `event_types` are ordered by descending priority, equal ones as configured. `endpoints` has each endpoint by name.
    Types that share an endpoint may differ in headers, time-out and success, so take it from the type whose event is
    sent. `revision` has digests of what workers depend on. `home` is the directory of the configuration file, or the
    current directory without a file; `data_dir` is where RLM keeps files.
    """

    event_types: tuple[EventType, ...]
    endpoints: Mapping[str, Endpoint]
    revision: str
    home: Path
    data_dir: Path
    source: Path | None
    sentry_dsn: str | None
    shown: Mapping[str, Shown]

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
    path: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    overrides: Sequence[str] = (),
    *,
    lenient: bool = False,
) -> Settings:
    """Return the settings of the file at `path`, else `$RLM_CONFIG`, else `./rlm.toml`, else the built-in ones.

    The variables `RLM_<SECTION>__<KEY>`, `REDIS_URL` and `SENTRY_DSN` of `environ` override the file; `overrides`
    (`KEY=VALUE` each, from `--set`) override both. The same file and environment give the same `revision` in every
    process. If `lenient`, the types are the built-in ones, and sections with faults or after one that is no TOML.

    Raises:
        ConfigurationError: there are faults; the message has a line for each, with origin, key, value, what is allowed.
    """
    layers = layers_of(path, environ, overrides, lenient=lenient)
    document = layers.read()
    if lenient:
        document = structs.replace(document, types=Layers({}, None, {}, ()).read().types)
    event_types = tuple(_event_types(document, environ))
    for place, problem in (*_clashes(event_types), *_problems(document)):
        layers.refuse(place, problem)
    if layers.faults and not lenient:
        raise ConfigurationError("\n".join(layers.faults[:100]))

    endpoints: dict[str, Endpoint] = {}
    for endpoint in (endpoint for kind in event_types for endpoint in kind.endpoints):
        endpoints.setdefault(endpoint.name, endpoint)
    home, dsn = layers.source.parent if layers.source else Path.cwd(), environ.get("SENTRY_DSN") or None
    values = leaves(msgspec.to_builtins(document))
    shown = {dotted(place): Shown(masked(place, value), layers.where(place)) for place, value in values}
    shown["sentry_dsn"] = Shown(dsn and secrets.MASK, "environment SENTRY_DSN" if dsn else "default")
    settings = Settings(
        **structs.asdict(document),
        event_types=event_types,
        endpoints=endpoints,
        revision=_revision(document, event_types),
        home=home,
        data_dir=home / (environ.get("RLM_DATA_DIR") or ".rlm"),
        source=layers.source,
        sentry_dsn=dsn,
        shown=shown,
    )
    secrets.remember(secrets_of(settings, environ))
    return settings


def _event_types(document: model.Document, environ: Mapping[str, str]) -> list[EventType]:
    """Return the types, by descending priority."""
    budgets = {name: Budget(name, Limit.parse(each.rate_limit)) for name, each in document.budgets.items()}
    kinds = []
    for name, kind in document.types.items():
        endpoints = tuple(
            Endpoint(
                name=each.name,
                url=check_endpoint_url(secrets.resolve_url(each.url, environ)),
                limit=Limit.parse(each.rate_limit or kind.rate_limit or ""),  # one of the two is there
                timeout_seconds=each.timeout_seconds or document.retry.timeout_seconds,
                headers=each.headers,
                budget=budgets.get(each.budget or ""),
                success=each.success or kind.success,
                written=each.url if secrets.VARIABLE.search(each.url) else "",
            )
            for each in kind.endpoints
        )
        own = Limit.parse(kind.rate_limit) if kind.rate_limit else None
        kinds.append(EventType(name, kind.priority, kind.processing_seconds, endpoints, kind.share, own))
    return sorted(kinds, key=lambda kind: -kind.priority)


def _clashes(event_types: Iterable[EventType]) -> Iterator[tuple[Place, str]]:
    """Yield which endpoints have the name or the URL of another. Two limits of one window would exceed the lower."""
    first: dict[str, Endpoint] = {}
    for kind in event_types:
        for each in kind.endpoints:
            others = first.setdefault(each.name, each), first.setdefault(each.url, each)
            of_others = {(other.name, other.window_id, other.limit.rules, other.budget) for other in others}
            if of_others != {(each.name, each.window_id, each.limit.rules, each.budget)}:
                ends = {f"{end.name} ({end.written or end.url}, {end.limit.text})": None for end in (each, *others)}
                problem = f"{' and '.join(ends)} clash; one URL has one name, one limit, one budget"
                yield ("types", kind.name, "endpoints"), problem


def _problems(document: model.Document) -> Iterator[tuple[Place, str]]:
    """Yield what else is wrong between tables."""
    own, queue = f"{document.redis.prefix}:", document.queue
    lists = {"events": queue.events, "processing": queue.processing, "failed": queue.failed}
    if len({*lists.values()}) < len(lists):
        yield ("queue", "failed"), f"the three lists must have different names, not {', '.join(lists.values())}"
    for key, list_name in lists.items():
        if list_name.startswith(own):
            yield ("queue", key), f"{list_name} must not begin with {own}, where RLM keeps its own keys (redis.prefix)"
    shares = {name: kind.share for name, kind in document.types.items() if kind.share}
    if sum(shares.values()) > 1 + 1e-9:  # ten shares of 0.1 are 1 despite floating-point errors
        words = " + ".join(f"{name} {share:g}" for name, share in shares.items())
        yield ("types", [*shares][-1], "share"), f"the shares of all types must be at most 1 together; {words} is more"
    members = {each.name: each.budget for kind in document.types.values() for each in kind.endpoints}
    for name, number in Counter(members.values()).items():
        if name and name not in document.budgets:
            ends = ", ".join(end for end, budget in members.items() if budget == name)
            near = did_you_mean(name, document.budgets)
            yield ("budgets", name), f"no right table, but the budget of {ends}{near}; add it with its rate_limit"
        if name and number > _MOST_OF_A_BUDGET:
            yield ("budgets", name), f"{number} endpoints name it; at most {_MOST_OF_A_BUDGET} may share one"
    for name in document.budgets.keys() & members.keys():
        yield ("budgets", name), "an endpoint has this name; give one of them another"


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
    places = {part: number * _DIGITS for number, part in enumerate(_PARTS)}
    return [part for part, at in places.items() if revision[at : at + _DIGITS] != other[at : at + _DIGITS]]


def secrets_of(settings: Settings, environ: Mapping[str, str]) -> secrets.Secrets:
    """Return the secrets in URLs, headers, the web token and Sentry's DSN, including those in the environment."""
    values = [settings.web.token, *secrets.url_secrets(settings.redis.url)]
    values += secrets.url_secrets(settings.sentry_dsn or "")
    sources = [settings.web.token]
    for endpoint in (endpoint for kind in settings.types.values() for endpoint in kind.endpoints):
        values += (environ.get(name, "") for name in secrets.VARIABLE.findall(endpoint.url))
        sources += endpoint.headers.values()
    for source in (source for source in sources if source.startswith(secrets.FROM_ENVIRONMENT)):
        secret = environ.get(source.removeprefix(secrets.FROM_ENVIRONMENT), "")
        values += (secret, secret.strip().partition(" ")[2].strip())  # also what follows a scheme (`Bearer X`)
    return secrets.Secrets(values)
