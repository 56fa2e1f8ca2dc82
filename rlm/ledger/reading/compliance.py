"""The log of calls sent, judged: the most calls in any period, against the limit, of each endpoint and budget."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from rlm.core.clock import isoformat, timestamp
from rlm.core.documents import Compliance, ComplianceRule, LimitedCompliance, Record
from rlm.core.endpoint import Limit, all_limited
from rlm.core.text import capital
from rlm.core.window import Peak, peaks
from rlm.ledger.calls import KEEP_SECONDS
from rlm.ledger.control import limits_of
from rlm.ledger.store import Store
from rlm.ledger.values import MICROSECONDS

#: A log that begins so much later than calls are kept is as old: no call was made then.
_QUIET_SECONDS = 900


class _Judged(NamedTuple):
    """When calls were sent to an endpoint or with a budget, microseconds of Redis time, and the peaks of its rules."""

    sent: Sequence[int]
    peaks: Sequence[Peak]


def _judge(store: Store, since_us: int) -> dict[str, _Judged]:
    """Judge the periods that end after `since_us`, by the limits in force then; those that began before it count."""
    changes = store.changes.newest()
    limited = [(each, limits_of(each, changes)) for each in all_limited(store.endpoints().values())]
    longest = [
        limit.longest_seconds
        for each, history in limited
        for limit in (each.limit, *(Limit.parse(text) for _, text in history))
    ]
    earliest_us = max(0, since_us - round(max(longest, default=0.0) * MICROSECONDS))
    sent = store.calls.sent_each([each for each, _ in limited], earliest_us)
    return {
        each.name: _Judged(sent[each.name], peaks(sent[each.name], each.limit, history, since_us))
        for each, history in limited
    }


def compliance(store: Store, since_seconds: float) -> Compliance:
    """Judge the calls of the last `since_seconds`, by endpoint and budget; `ok` means that no limit was exceeded.

    Calls count when they were sent, by the clock of Redis. Endpoints that are no longer configured are left out. All
    calls are known from `known_from` on; `known_why` says why not earlier, or is None. Earlier calls count as far as
    they are known, which does not prove that there were not too many.
    """
    now_us, endpoints = store.now_us(), store.endpoints()
    since_us = max(0, now_us - round(since_seconds * MICROSECONDS))
    judged = {name: _document(each, since_us) for name, each in _judge(store, since_us).items()}
    now, first, doubt = now_us / MICROSECONDS, store.calls.begins(), store.leases.doubt()
    begins = now if first is None else first
    bounds = [(since_us / MICROSECONDS, None), (now - KEEP_SECONDS, f"Calls are kept {KEEP_SECONDS / 3600:g} h")]
    bounds += [(begins, "The log of calls begins then")] if begins > now - KEEP_SECONDS + _QUIET_SECONDS else []
    bounds += [(doubt.at, capital(doubt.why))] if doubt else []
    known_from, known_why = max(bounds, key=lambda bound: bound[0])
    return Compliance(
        ok=not any(rule.exceeded for each in judged.values() for rule in each.rules),
        since=isoformat(since_us / MICROSECONDS),
        known_from=isoformat(min(known_from, now)),
        known_why=known_why,
        until=isoformat(now_us / MICROSECONDS),
        by_endpoint={name: each for name, each in judged.items() if name in endpoints},
        by_budget={name: each for name, each in judged.items() if name not in endpoints},
    )


def _document(judged: _Judged, since_us: int) -> LimitedCompliance:
    rules = tuple(
        ComplianceRule(
            limit=peak.limit,
            amount=peak.rule.amount,
            period_seconds=peak.rule.seconds,
            in_force=peak.in_force,
            most=peak.most,
            at=None if peak.at_us is None else isoformat(peak.at_us / MICROSECONDS),
            exceeded=peak.exceeded,
        )
        for peak in judged.peaks
    )
    return LimitedCompliance(calls=sum(moment >= since_us for moment in judged.sent), rules=rules)


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

    `since` is in seconds since 1970. What was sent before endpoints were last held does not count: slots that were
    ahead of a clock set back have its time.
    """
    if doubt := store.leases.doubt():
        since = doubt.at if since * MICROSECONDS > store.now_us() else max(since, doubt.at)
    judged = _judge(store, round(since * MICROSECONDS))
    return {name: max(0, *(peak.most - peak.rule.amount for peak in each.peaks)) for name, each in judged.items()}


def exceeded(judged: Compliance) -> list[str]:
    """Return the endpoints and budgets whose limit was exceeded."""
    return [name for name, each in judged.limited.items() if any(rule.exceeded for rule in each.rules)]


def gap(judged: Compliance) -> str:
    """Return from when on and why not all requested calls are known, '' if they are."""
    if not judged.known_why:
        return ""
    return f"{judged.known_why}. Calls before {judged.known_from} are not known, or not all of them."
