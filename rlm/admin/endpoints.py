"""Endpoints and budgets of the live system: limit, used and free calls, health, changes; whether limits were kept."""

from __future__ import annotations

import json
import os
import socket
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple, TypeVar
from urllib.parse import urlencode

from rlm.admin.errors import BadQuestionError, NoSuchEndpointError
from rlm.admin.text import span
from rlm.core.clock import isoformat, timestamp
from rlm.core.documents import Compliance, ComplianceRule, EndpointView, LimitedCompliance, Record, Share
from rlm.core.endpoint import (
    ENDLESS_SECONDS,
    Budget,
    Circuit,
    Limit,
    Limited,
    WindowState,
    all_limited,
    shut_by,
)
from rlm.core.files import user_name
from rlm.ledger.calls import fullest, sent_by
from rlm.ledger.leases import Present, present
from rlm.ledger.rules import BY_FILE, Change, What
from rlm.ledger.store import Store
from rlm.ledger.values import MICROSECONDS
from rlm.settings import Settings
from rlm.settings.layers import did_you_mean
from rlm.settings.secrets import url_secrets

_Named = TypeVar("_Named")

#: The states between a failure and the next good answer.
RECOVERING = frozenset({Circuit.RESTING, Circuit.PROBING})
#: How the reason begins why an endpoint fails.
FAILING_WITH = "failing: "
#: Why a window is held if nothing made Redis doubted: see `known` in `lua/endpoints.lua`.
LONGER_PERIOD = "its limit has a longer period now, of which not all calls are known"
#: No hold because of a doubt is longer, in seconds: rules of more than an hour are not held.
HELD_SECONDS = 2 * 3600.0


def standing(store: Store, there: Present | None = None) -> dict[str, EndpointView]:
    """Return the state of each endpoint and budget by name."""
    return {view.name: view for view in endpoint_list(store, there)}


class _Seen(NamedTuple):
    """What is read of all endpoints and budgets, each by name; `doubt` says why Redis was doubted, or ''."""

    windows: Mapping[str, WindowState]
    changes: Mapping[str, Change]
    by_file: Mapping[str, str]
    types: Mapping[str, Sequence[str]]
    doubt: str


def endpoint_list(store: Store, there: Present | None = None) -> list[EndpointView]:
    """Return the configured endpoints, then the budgets."""
    there = there or present(store)
    limited = all_limited(store.endpoints(there.limits).values())
    return views(store, there, store.windows.look(limited)[1], store.rules.changes())


def views(
    store: Store, there: Present, windows: Mapping[str, WindowState], changes: Sequence[Change]
) -> list[EndpointView]:
    """Return the views of the endpoints and budgets with these windows; `changes` are newest first."""
    types = defaultdict[str, list[str]](list)
    limited = [each for each in all_limited(store.endpoints(there.limits).values()) if each.name in windows]
    for kind in store.settings.event_types:
        for name in {name for end in kind.endpoints for name in (end.name, _budget(end)) if name}:
            types[name].append(kind.name)
    seen = _Seen(
        windows,
        _newest_limits(changes, limited),
        {each.name: each.limit.text for each in all_limited(store.settings.endpoints.values())},
        types,
        there.lease.doubt if there.now_us / MICROSECONDS < there.lease.doubted_at + HELD_SECONDS else "",
    )
    return [_view(each, seen, store.settings.run.guard_seconds) for each in limited]


def choose_limited(settings: Settings, names: Sequence[str], type_name: str | None = None) -> list[Limited]:
    """Return the named endpoints and budgets and all endpoints of the type, each once.

    A name with `*`, `?` or `[` is a pattern for names of endpoints. It matches no budget, because a budget may apply
    to endpoints that do not match.

    Raises:
        NoSuchEndpointError: a name is not in the configuration, or a pattern matches nothing.
    """
    limited = {each.name: each for each in all_limited(settings.endpoints.values())}
    chosen: dict[str, Limited] = {}
    for name in names:
        is_pattern = name not in limited and set(name) & set("*?[")
        matching = [each for each in settings.endpoints if fnmatchcase(each, name)] if is_pattern else [name]
        if not matching:
            raise NoSuchEndpointError(f"No endpoint matches {name!r}. `rlm endpoint list` shows those there are.")
        chosen |= {each: _named("endpoint or budget", each, limited) for each in matching}
    if type_name is not None:
        described = _named("type", type_name, settings.types).endpoints
        chosen |= {each.name: settings.endpoints[each.name] for each in described}
    return list(chosen.values())


def _named(what: str, name: str, names: Mapping[str, _Named]) -> _Named:
    if name not in names:
        near = did_you_mean(name, names)
        raise NoSuchEndpointError(f"No {what} is named {name!r}{near}. `rlm endpoint list` shows those there are.")
    return names[name]


def share(store: Store, name: str) -> Share:
    """Return how another program shares the window of an endpoint: URL, limit in force, lines of Python.

    Secrets in the URLs are left to variables of that program's environment.
    """
    endpoint = _named("endpoint", name, store.endpoints())
    url, rule = endpoint.written or endpoint.url, endpoint.limit.rules[0]
    address = "$REDIS_URL" if any(url_secrets(store.url)) else store.url.replace("unix:///", "redis:///", 1)
    parameters = urlencode({"prefix": store.settings.redis.prefix, "guard": store.settings.run.guard_seconds})
    storage = f"rlm+{address}{'&' if '?' in store.url else '?'}{parameters}"
    return Share(
        name=name,
        url=url,
        limit=endpoint.limit.text,
        lines=(
            "from os import path; from rlm.limits_storage import MovingWindowRateLimiter, Rate, storage_from_string",
            f"limiter = MovingWindowRateLimiter(storage_from_string(path.expandvars({json.dumps(storage)})))",
            f"may_call = limiter.hit(Rate({rule.amount}, {rule.seconds}), path.expandvars({json.dumps(url)}))",
        ),
    )


def changes_made(store: Store) -> list[Change]:
    """Return the changes, newest first. The first publication of a file's limit is recorded, but is not a change."""
    return [each for each in store.rules.changes() if each.what is not What.LIMIT or each.before is not None]


def _newest_limits(newest: Sequence[Change], limited: Iterable[Limited]) -> dict[str, Change]:
    """Return the newest change of each changed limit, by name; `newest` is newest first."""
    changes = {change.window: change for change in reversed(newest) if change.what is What.LIMIT}
    return {each.name: changes[each.window_id] for each in limited if each.window_id in changes}


def _budget(limited: Limited) -> str | None:
    budget = getattr(limited, "budget", None)
    return budget.name if budget else None


def _view(limited: Limited, seen: _Seen, guard_seconds: float) -> EndpointView:
    name, text, budget, window = limited.name, limited.limit.text, _budget(limited), seen.windows[limited.name]
    both = [seen.windows[each] for each in (name, budget) if each]
    # The rule with the fewest slots left counts.
    used, allowed = min(
        ((sum(age < rule.seconds + guard_seconds for age in window.ages), rule.amount) for rule in limited.limit.rules),
        key=lambda use: use[1] - use[0],
    )
    wait_seconds = max(0.0 if each.free > 0 else each.wait_seconds for each in both)
    free = min(each.free for each in both)
    circuit = shut_by(window) or (Circuit.OK if free > 0 else Circuit.FULL)
    is_failing = circuit in RECOVERING and window.failures > 0  # a refusal ends their row
    left, since, reason = None, window.opened_at if is_failing else None, None
    if circuit is Circuit.HELD:
        left = window.held_seconds
        reason = f"its window cannot be trusted: {seen.doubt}" if seen.doubt else LONGER_PERIOD
    elif circuit is Circuit.PAUSED:
        left = window.paused_seconds if window.paused_seconds <= ENDLESS_SECONDS else None
        since = window.paused_at
    elif circuit in RECOVERING:
        left = window.rest_seconds if circuit is Circuit.RESTING else None
        reason = f"{FAILING_WITH}{window.failed_with}".rstrip(": ") if is_failing else "throttled"
    change = seen.changes.get(name)
    if change and change.after != text:
        change = None
    return EndpointView(
        name=name,
        kind="budget" if isinstance(limited, Budget) else "endpoint",
        types=tuple(seen.types[name]),
        budget=budget,
        limit=text,
        # A limit of the file may have no record of its publication.
        limit_by=change.by if change else BY_FILE if seen.by_file[name] == text else None,
        limit_at=isoformat(change.at) if change else None,
        used=used,
        allowed=allowed,
        free=free,
        next_slot_seconds=None if wait_seconds > ENDLESS_SECONDS else round(wait_seconds, 3),
        health=circuit,
        since=None if since is None else isoformat(since),
        circuit_seconds=None if left is None else round(left, 3),
        circuit_reason=reason,
        paused_by=window.paused_by if window.paused_seconds > 0 else None,
        failures=window.failures,
    )


def health_beside(view: EndpointView) -> str:
    """Return the details of an endpoint's health: for how long, why, by whom."""
    is_paused = view.health == Circuit.PAUSED
    details = [f"for {span(view.circuit_seconds)}"] if view.circuit_seconds is not None else []
    details += ["until resumed"] if is_paused and not details else []
    details += ["with one call at a time"] if view.health == Circuit.PROBING else []
    details += [f"({view.circuit_reason})"] if view.circuit_reason else []
    details += [f"{'' if is_paused else 'and paused '}by {view.paused_by}"] if view.paused_by else []
    return " ".join(details)


def who() -> str:
    """Return the user of this process as `user@host`, for the record of changes."""
    return f"{user_name(os.getuid())}@{socket.gethostname()}"[:200].encode("utf-8", "replace").decode()


def check_rate(rate: str) -> str:
    """Return a limit in its canonical spelling; raise a BadQuestionError if it is not a limit."""
    try:
        return Limit.parse(" ".join(rate.split())).text
    except ValueError as error:
        raise BadQuestionError(f"RATE {rate!r}: {error}") from None


# -- the log of calls sent, judged: the most calls in any period, against the limit


def compliance(store: Store, since_seconds: float) -> Compliance:
    """Judge the calls of the last `since_seconds`, by endpoint and budget; `ok` means that no limit was exceeded.

    Each is judged by the limit in force, from when that was set. Calls count when they were sent, by the clock of
    Redis. Endpoints that are no longer configured are left out. Before `known_from` not all calls are known;
    what is known counts, which does not prove that there were not too many.
    """
    now_us, endpoints = store.now_us(), store.endpoints()
    now, since_us = now_us / MICROSECONDS, max(0, now_us - round(since_seconds * MICROSECONDS))
    limited = all_limited(endpoints.values())
    longest = max((each.limit.longest_seconds for each in limited), default=0.0)
    sent = sent_by(store.calls.since(since_us / MICROSECONDS - longest), endpoints.values())
    changes, judged = _newest_limits(store.rules.changes(), limited), {}
    for each in limited:
        change, stamps = changes.get(each.name), sent[each.name]
        begin_us = max(since_us, round(change.at * MICROSECONDS) if change else 0)
        judged[each.name] = LimitedCompliance(
            since=isoformat(begin_us / MICROSECONDS),
            calls=len(stamps) - bisect_left(stamps, begin_us),
            rules=tuple(peaks(stamps, each.limit, begin_us)),
        )
    lease, begins = store.leases.read(), store.calls.begins()
    known_from = max(since_us / MICROSECONDS, begins or 0.0, lease.doubted_at)
    return Compliance(
        ok=not any(each.exceeded for each in judged.values()),
        since=isoformat(since_us / MICROSECONDS),
        known_from=isoformat(min(known_from, now)),
        until=isoformat(now),
        by_endpoint=judged,
    )


def excess_of(store: Store, record: Record) -> dict[str, int]:
    """Return by endpoint and budget by how much its limit was exceeded since the run of `record` began, 0 if kept.

    What was sent before endpoints were last held does not count: slots that were ahead of a clock set back have its
    time.
    """
    since = max(timestamp(record.started_at), store.leases.read().doubted_at)
    judged = compliance(store, max(0.0, store.now() - since)).by_endpoint
    return {name: max(0, *(rule.most - rule.amount for rule in each.rules)) for name, each in judged.items()}


def exceeded(judged: Compliance) -> list[str]:
    """Return the endpoints and budgets whose limit was exceeded."""
    return [name for name, each in judged.by_endpoint.items() if each.exceeded]


def gap(judged: Compliance) -> str:
    """Return from when on all calls are known, if that is later than was asked for, else ''."""
    is_known = judged.known_from <= judged.since
    return "" if is_known else f"Calls before {judged.known_from} are not known, or not all of them."


def peaks(stamps: Sequence[int], limit: Limit, since_us: int = 0) -> Iterator[ComplianceRule]:
    """Yield, for each rule, the fullest period that ends with a call at `since_us` or later.

    `stamps` are the slots in ascending order, microseconds of Redis time.
    """
    for rule in limit.rules:
        most, at_us = fullest(stamps, round(rule.seconds * MICROSECONDS), since_us)
        yield ComplianceRule(
            amount=rule.amount,
            period_seconds=rule.seconds,
            most=most,
            at=None if at_us is None else isoformat(at_us / MICROSECONDS),
            exceeded=most > rule.amount,
        )
