"""The log of calls sent, judged: what `rlm compliance` shows of each endpoint and budget, also in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from rlm.core.clock import isoformat, timestamp
from rlm.core.documents import Record
from rlm.core.endpoint import Limit, Limited, all_limited
from rlm.core.text import capital
from rlm.core.window import most_by_part, peaks
from rlm.ledger import Store
from rlm.ledger.calls import KEEP_SECONDS
from rlm.ledger.control import limits_of
from rlm.ledger.values import MICROSECONDS

#: A log that begins so much later than calls are kept, microseconds, is as old: no call was made then.
_QUIET_US = 900 * MICROSECONDS


class _Time(NamedTuple):
    """The time to judge, microseconds of Redis time, and its number of parts, 0 for none."""

    since_us: int
    until_us: int
    parts: int


def compliance(store: Store, since_seconds: float, parts: int = 0) -> dict[str, Any]:
    """Judge the calls of the last `since_seconds`, by endpoint and budget; `ok` means that no limit was exceeded.

    With `parts`, each also has a `course`: for each equal part of that time, the most calls in any period of the
    limit's first rule that ended in it.

    Calls count when they were sent, by the clock of Redis. Endpoints that are no longer configured are left out. All
    calls are known from `known_from` on; `known_why` says why not earlier, or is None. Earlier calls count as far as
    they are known, which does not prove that there were not too many.
    """
    endpoints, changes = store.endpoints(), store.changes.newest()
    now_us = store.now_us()
    since_us = max(0, now_us - round(since_seconds * MICROSECONDS))
    time = _Time(since_us, now_us, parts)
    limited = list(all_limited(endpoints.values()))
    spans = [longest(one, limits_of(one, changes)) for one in limited]
    # A period that began before that time counts as a whole.
    sent = store.calls.sent_each(limited, max(0, since_us - round(max(spans, default=0.0) * MICROSECONDS)))
    found = {one.name: _judge(sent[one.name], one, limits_of(one, changes), time) for one in limited}
    known_us, known_why = _known_from(store, since_us, now_us)
    return {
        "ok": not any(rule["exceeded"] for one in found.values() for rule in one["rules"]),
        "since_seconds": since_seconds,
        "from": isoformat(since_us / MICROSECONDS),
        "known_from": isoformat(known_us / MICROSECONDS),
        "known_why": known_why,
        "until": isoformat(now_us / MICROSECONDS),
        "by_endpoint": {name: one for name, one in found.items() if name in endpoints},
        "by_budget": {name: one for name, one in found.items() if name not in endpoints},
    }


def excess_of(store: Store, record: Record) -> dict[str, int]:
    """Return what `excess` finds since the end of the run before the one of `record`, so each call is judged once.

    Without a run before, or if the clock was set back since it ended, judge from the start of this run.
    """
    since = timestamp(record.started_at)
    for other in store.runs.recent(2):  # newest first; one of them may be that of `record`
        with suppress(ValueError):  # a record may hold any text
            if other.run_id != record.run_id and other.finished_at <= record.finished_at:
                since = timestamp(other.finished_at)
    return excess(store, since)


def excess(store: Store, since: float) -> dict[str, int]:
    """Return by endpoint and budget by how much its limit was exceeded in periods that end after `since`, 0 if kept.

    `since` is in seconds since 1970. Only calls since then, and in the longest period before, are read. What was sent
    before endpoints were last held does not count: slots that were ahead of a clock set back have its time.
    """
    now_us = store.now_us()
    if doubt := store.leases.doubt():
        since = doubt.at if since * MICROSECONDS > now_us else max(since, doubt.at)
    changes = store.changes.newest()
    limited = [(one, limits_of(one, changes)) for one in all_limited(store.endpoints().values())]
    earlier = max((longest(one, history) for one, history in limited), default=0.0)
    sent = store.calls.sent_each([one for one, _ in limited], max(0, round((since - earlier) * MICROSECONDS)))
    found = {}
    for one, history in limited:
        judged = peaks(sent[one.name], one.limit, history, round(since * MICROSECONDS))
        found[one.name] = max(0, *(peak.most - peak.rule.amount for peak in judged))
    return found


def longest(limited: Limited, history: Sequence[tuple[float, str]]) -> float:
    """Return the longest period of the limit in force and of the earlier ones, seconds."""
    return max(limit.longest_seconds for limit in (limited.limit, *(Limit.parse(text) for _, text in history)))


def _known_from(store: Store, since_us: int, now_us: int) -> tuple[int, str | None]:
    """Return from when on all calls are known, and why not since `since_us`; what a Redis forgot is in no log."""
    bounds: list[tuple[int, str | None]] = [
        (since_us, None),
        (now_us - KEEP_SECONDS * MICROSECONDS, f"Calls are kept {KEEP_SECONDS / 3600:g} h"),
    ]
    first = store.calls.begins()
    begins_us = now_us if first is None else min(now_us, round(first * MICROSECONDS))
    if begins_us > bounds[1][0] + _QUIET_US:
        bounds.append((begins_us, "The log of calls begins then"))
    if doubt := store.leases.doubt():
        bounds.append((min(now_us, round(doubt.at * MICROSECONDS)), capital(doubt.why)))
    return max(bounds, key=lambda bound: bound[0])


def _judge(sent: Sequence[int], limited: Limited, history: Sequence[tuple[float, str]], time: _Time) -> dict[str, Any]:
    since_us = time.since_us
    span_us = round(limited.limit.rules[0].seconds * MICROSECONDS)
    course = most_by_part(sent, span_us, since_us, time.until_us, time.parts) if time.parts else None
    return {
        "calls": sum(moment >= since_us for moment in sent),
        "rules": [
            {
                "limit": peak.limit,
                "amount": peak.rule.amount,
                "period_seconds": peak.rule.seconds,
                "in_force": peak.in_force,
                "most": peak.most,
                "at": None if peak.at_us is None else isoformat(peak.at_us / MICROSECONDS),
                "exceeded": peak.exceeded,
            }
            for peak in peaks(sent, limited.limit, history, since_us)
        ],
        **({"course": course} if course else {}),
    }


def rules(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield each rule of each endpoint and budget in a result of `compliance`, flat for a table."""
    span = {"known_from": found["known_from"], "until": found["until"]}
    for kind in ("endpoint", "budget"):
        for name, one in found[f"by_{kind}"].items():
            for rule in one["rules"]:
                yield {"name": name, "kind": kind, "calls": one["calls"], **rule, **span}


def exceeded(found: Mapping[str, Any]) -> list[str]:
    """Return the endpoints and budgets whose limit was exceeded."""
    return list(dict.fromkeys(one["name"] for one in rules(found) if one["exceeded"]))


def gap(found: Mapping[str, Any]) -> str:
    """Return from when on and why not all requested calls are known, '' if they are."""
    if not found["known_why"]:
        return ""
    return f"{found['known_why']}. Calls before {found['known_from']} are not known, or not all of them."
