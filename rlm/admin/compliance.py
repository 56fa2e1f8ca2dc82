"""The log of calls sent, judged: the most calls in any period, against the limit, of each endpoint and budget."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from rlm.core.clock import isoformat, timestamp
from rlm.core.documents import Compliance, ComplianceRule, LimitedCompliance, Record
from rlm.core.endpoint import Limit, all_limited
from rlm.ledger.calls import fullest, sent_by
from rlm.ledger.rules import newest_limits
from rlm.ledger.store import Store
from rlm.ledger.values import MICROSECONDS


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
    changes, judged = newest_limits(store.control.changes(), limited), {}
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
        by_endpoint={name: each for name, each in judged.items() if name in endpoints},
        by_budget={name: each for name, each in judged.items() if name not in endpoints},
    )


def excess_of(store: Store, record: Record) -> dict[str, int]:
    """Return by endpoint and budget by how much its limit was exceeded since the run of `record` began, 0 if kept.

    What was sent before endpoints were last held does not count: slots that were ahead of a clock set back have its
    time.
    """
    since = max(timestamp(record.started_at), store.leases.read().doubted_at)
    judged = compliance(store, max(0.0, store.now() - since))
    return {name: max(0, *(rule.most - rule.amount for rule in each.rules)) for name, each in judged.limited.items()}


def exceeded(judged: Compliance) -> list[str]:
    """Return the endpoints and budgets whose limit was exceeded."""
    return [name for name, each in judged.limited.items() if each.exceeded]


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
