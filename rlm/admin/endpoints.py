"""The endpoints and budgets of the live system: limit, used and free calls, health; and changes to them."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec

from rlm.core.clock import isoformat
from rlm.core.endpoint import Budget, Endpoint, Limit, Limited, Rule, all_limited
from rlm.core.errors import BadQuestionError, NoSuchEndpointError, StoreForbiddenError
from rlm.core.files import user_name
from rlm.core.text import cut, did_you_mean, safe_line, span
from rlm.core.window import ENDLESS_SECONDS, FAILING, RECOVERING, Circuit, WindowState, circuit_of, shut_by
from rlm.ledger import Store
from rlm.ledger.breaker import Health
from rlm.ledger.control import BY_FILE, Change, What, newest_limits
from rlm.settings import Settings
from rlm.settings.checks import check_limit
from rlm.settings.secrets import VARIABLE, url_secrets

_Named = TypeVar("_Named")

#: The longest limited pause, seconds.
LONGEST_PAUSE_SECONDS = 366 * 86_400.0
#: The most characters of a reason.
LONGEST_REASON = 200
#: The most characters of a name in the record of changes.
_LONGEST_WHO = 200
#: The reason if no host can call an endpoint.
#: Fields that a list of endpoints shows and the status of a run does not.
_LISTED_ONLY = frozenset({"paused_by", "paused_at", "paused_until", "failures"})


def endpoint_list(store: Store) -> list[dict[str, Any]]:
    """Return the configured endpoints, then the budgets, as `rlm endpoint list` prints them."""
    limited = all_limited(store.endpoints().values())
    _, states = _states(store, limited)
    set_by = newest_limits(store.changes.newest(), limited)
    return [
        {
            "name": one.name,
            "kind": "budget" if isinstance(one, Budget) else "endpoint",
            "types": states[one.name].pop("types"),
            "budget": _budget(one),
            **_limit(one, set_by.get(one.name), store.settings.endpoints),
            **states[one.name],
        }
        for one in limited
    ]


def choose_limited(settings: Settings, names: Sequence[str], type_name: str | None = None) -> list[Limited]:
    """Return the named endpoints and budgets and all endpoints of the type, each once.

    A name with `*`, `?` or `[` is a pattern for names of endpoints. It matches no budget, because a budget may apply
    to endpoints that do not match.

    Raises:
        NoSuchEndpointError: a name is not in the configuration, or a pattern matches nothing.
    """
    known = {one.name: one for one in all_limited(settings.endpoints.values())}
    found: dict[str, Limited] = {}
    for name in names:
        is_pattern = name not in known and set(name) & set("*?[")
        matching = [one for one in settings.endpoints if fnmatchcase(one, name)] if is_pattern else [name]
        if not matching:
            raise NoSuchEndpointError(f"No endpoint matches {name!r}. `rlm endpoint list` shows those there are.")
        found |= {one: _known("endpoint or budget", one, known) for one in matching}
    if type_name is not None:
        of_type = _known("type", type_name, settings.types).endpoints
        found |= {one.name: settings.endpoints[one.name] for one in of_type}
    return list(found.values())


def _known(what: str, name: str, known: Mapping[str, _Named]) -> _Named:
    if name not in known:
        near = did_you_mean(name, known)
        raise NoSuchEndpointError(f"No {what} is named {name!r}{near}. `rlm endpoint list` shows those there are.")
    return known[name]


def standing(store: Store) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return the time of Redis in microseconds, and the state of each endpoint and budget by name.

    The state has the types served, the calls `used` of those `allowed` by the rule with the fewest left, the next slot
    and the health. A read-only user gets no states, because it may run no script.
    """
    try:
        now_us, states = _states(store, all_limited(store.endpoints().values()))
    except StoreForbiddenError:
        return store.now_us(), {}
    return now_us, {
        name: {key: value for key, value in state.items() if key not in _LISTED_ONLY} for name, state in states.items()
    }


def _states(store: Store, limited: Sequence[Limited]) -> tuple[int, dict[str, dict[str, Any]]]:
    now_us, views = store.windows.look(limited)
    ages, health = store.windows.ages(limited, now_us), store.breaker.health(limited)
    doubted, found = why_held(store, limited, views), {}
    for one in limited:
        counting, rule = _use(one.limit, ages[one.name], store.settings.run.guard_seconds)
        found[one.name] = {
            "types": _types(store, one),
            "used": len(counting),
            "allowed": rule.amount,
            "since": _since(views[one.name], health[one.name]),
            **_slots([views[name] for name in (one.name, _budget(one)) if name]),
            **_health(one, views, health[one.name], doubted),
        }
    return now_us, found


def share(store: Store, name: str) -> dict[str, Any]:
    """Return how another program shares the window of an endpoint: URL, limit in force, lines of Python.

    Secrets in the URLs are left to variables of that program's environment.
    """
    endpoint = _known("endpoint", name, store.endpoints())
    kinds = store.settings.types.values()
    written = next(one.url for kind in kinds for one in kind.endpoints if one.name == name)
    in_environment = bool(VARIABLE.search(written))
    url = written if in_environment else endpoint.url
    identifier = f"path.expandvars({json.dumps(url)})" if in_environment else json.dumps(url)

    is_secret, address = any(url_secrets(store.url)), store.url.replace("unix:///", "redis:///", 1)
    parameters = urlencode({"prefix": store.settings.redis.prefix, "guard": store.settings.run.guard_seconds})
    parameters = ("&" if "?" in store.url else "?") + parameters
    storage = f'"rlm+" + environ["REDIS_URL"] + "{parameters}"' if is_secret else f'"rlm+{address}{parameters}"'

    rule, needed = endpoint.limit.rules[0], ["environ"] * is_secret + ["path"] * in_environment
    seconds = int(rule.seconds) if rule.seconds.is_integer() else rule.seconds
    return {
        "name": name,
        "url": url,
        "limit": endpoint.limit.text,
        "lines": [
            f"from os import {', '.join(needed)}; " * bool(needed)
            + "from rlm.limits_storage import MovingWindowRateLimiter, Rate, storage_from_string",
            f"limiter = MovingWindowRateLimiter(storage_from_string({storage}))",
            f"may_call = limiter.hit(Rate({rule.amount}, {seconds}), {identifier})",
        ],
    }


def changes_made(store: Store, number: int) -> list[dict[str, Any]]:
    """Return the newest `number` changes, newest first.

    The first publication of a file's limit is recorded, but is not a change.
    """
    made = [one for one in store.changes.newest() if one.what is not What.LIMIT or one.before is not None]
    told = (msgspec.to_builtins(one) | {"at": isoformat(one.at)} for one in made[:number])
    return [{key: value for key, value in one.items() if key != "window"} for one in told]


def _types(store: Store, limited: Limited) -> list[str]:
    return [
        kind.name
        for kind in store.settings.event_types
        if any(limited.name in {one.name, _budget(one)} for one in kind.endpoints)
    ]


def _budget(limited: Limited) -> str | None:
    budget = getattr(limited, "budget", None)
    return budget.name if budget else None


def _limit(limited: Limited, change: Change | None, configured: Mapping[str, Endpoint]) -> dict[str, Any]:
    """Return the limit, who set it and when; a limit of the file may have no record of its publication."""
    text = limited.limit.text
    if change is not None and change.after == text:
        return {"limit": text, "limit_by": change.by, "limit_at": isoformat(change.at)}
    filed = {one.name: one.limit.text for one in all_limited(configured.values())}
    return {"limit": text, "limit_by": BY_FILE if filed.get(limited.name) == text else None, "limit_at": None}


def _use(limit: Limit, ages: Sequence[float], guard_seconds: float) -> tuple[list[float], Rule]:
    """Return the ages of the slots in use, and the rule that counts them: the one with the fewest slots left."""
    counted = [([age for age in ages if age < rule.seconds + guard_seconds], rule) for rule in limit.rules]
    return min(counted, key=lambda one: one[1].amount - len(one[0]))


def _since(view: WindowState, health: Health) -> str | None:
    """Return since when an endpoint is paused, or rests or is probed after failures; None if that is not known."""
    failing = health.opened_at if shut_by(view) in RECOVERING and health.failures >= FAILING else None
    at = health.paused_at if shut_by(view) is Circuit.PAUSED else failing
    return None if at is None else isoformat(at)


def health_beside(entry: Mapping[str, Any]) -> str:
    """Return the details of an endpoint's health, from its entry: for how long, why, by whom."""
    is_paused = entry["health"] == Circuit.PAUSED
    told = [f"for {span(entry['circuit_seconds'])}"] if entry["circuit_seconds"] is not None else []
    told += ["until resumed"] if is_paused and not told else []
    told += [f"({entry['circuit_reason']})"] if entry["circuit_reason"] else []
    told += [f"{'' if is_paused else 'and paused '}by {entry['paused_by']}"] if entry["paused_by"] else []
    return " ".join(told)


def _slots(views: Sequence[WindowState]) -> dict[str, Any]:
    """Return the free slots and the seconds to the next one; None if the endpoint or budget is paused endlessly."""
    free = min(view.free for view in views)
    wait = max(0.0 if view.free > 0 else view.wait_seconds for view in views)
    return {"free": free, "next_slot_seconds": None if wait > ENDLESS_SECONDS else round(wait, 3)}


def why_held(store: Store, limited: Iterable[Limited], views: Mapping[str, WindowState]) -> str:
    """Return why Redis was doubted, if endpoints or budgets are held for that; else ''."""
    held = [one for one in limited if views[one.name].held_seconds > 0]
    if not held or (doubt := store.leases.doubt()) is None:
        return ""
    longest = max(one.limit.longest_seconds for one in held) + store.settings.run.guard_seconds
    until = doubt.at + longest + max(one.timeout_seconds for one in store.settings.endpoints.values())
    return doubt.why if store.now() <= until else ""


def reason_of(circuit: Circuit, health: Health, doubted: str = "") -> str | None:
    """Return in words why an endpoint or budget rests, is probed or is held; None in other states.

    `doubted` is why Redis was doubted, as from `why_held`.
    """
    if circuit is Circuit.HELD:
        return f"its window cannot be trusted: {doubted}" if doubted else "its window cannot be trusted"
    if circuit not in RECOVERING:
        return None
    failing = f"failing: {health.failed_with}" if health.failed_with else "failing"
    return failing if health.failures >= FAILING else "throttled"


def _health(limited: Limited, views: Mapping[str, WindowState], health: Health, doubted: str) -> dict[str, Any]:
    view, budget = views[limited.name], views.get(_budget(limited) or "")
    circuit, paused = circuit_of(view, budget), view.paused_seconds > 0
    left = {Circuit.RESTING: view.rest_seconds, Circuit.HELD: view.held_seconds}
    if health.paused_until is not None:
        left[Circuit.PAUSED] = view.paused_seconds
    return {
        "health": circuit,
        "circuit_seconds": round(left[circuit], 3) if circuit in left else None,
        "circuit_reason": reason_of(circuit, health, doubted),
        "paused_by": health.paused_by if paused else None,
        "paused_at": isoformat(health.paused_at) if paused and health.paused_at is not None else None,
        "paused_until": isoformat(health.paused_until) if paused and health.paused_until is not None else None,
        "failures": health.failures,
    }


def who() -> str:
    """Return the user of this process as `user@host`, for the record of changes."""
    name = f"{user_name(os.getuid())}@{socket.gethostname()}"[:_LONGEST_WHO]
    return name.encode("utf-8", "replace").decode()


def pause(store: Store, one: Limited, by: str, seconds: float | None = None, reason: str = "") -> dict[str, Any]:
    """Stop new calls to an endpoint or budget, for `seconds` or until it is resumed."""
    store.control.pause(one, by, seconds, check_reason(reason))
    return {"name": one.name, "paused_seconds": seconds, "by": by}


def resume(store: Store, one: Limited, by: str, reason: str = "") -> dict[str, Any]:
    """End a pause, and a rest caused by answers; return what was ended, and for how long it is still held."""
    resumed = store.control.resume(one, by, check_reason(reason))
    view = store.windows.look([one])[1][one.name]
    return {
        "name": one.name,
        "paused": resumed.paused,
        "rested": resumed.rested,
        "probing": shut_by(view) is Circuit.PROBING,
        "held_seconds": round(view.held_seconds, 3),
    }


def limit(store: Store, one: Limited, by: str, rate: str, reason: str = "") -> dict[str, Any]:
    """Change a limit to a `rate` that `check_rate` has returned."""
    return {"name": one.name, "from": store.control.limit(one, rate, by, check_reason(reason)), "to": rate, "by": by}


def check_rate(rate: str) -> str:
    """Return a limit in its canonical spelling; raise a BadQuestionError if it is not a limit."""
    try:
        return check_limit(" ".join(rate.split()))
    except ValueError as error:
        raise BadQuestionError(f"RATE {rate!r}: {error}") from None


def check_reason(reason: str) -> str:
    """Return a reason on one line, as it is stored; raise a BadQuestionError if it is too long."""
    if len(reason) > LONGEST_REASON:
        raise BadQuestionError(f"the reason {cut(safe_line(reason), 40)!r} is longer than {LONGEST_REASON} characters")
    return " ".join(reason.split()).encode("utf-8", "replace").decode()
