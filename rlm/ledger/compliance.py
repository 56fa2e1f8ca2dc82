"""The log of calls sent, judged: the most calls in any period, against the limit, of each endpoint and budget."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from msgspec.structs import replace

from rlm.core.clock import isoformat, timestamp
from rlm.core.documents import Compliance, ComplianceRule, LimitedCompliance, Record
from rlm.core.endpoint import Limit, all_limited
from rlm.core.text import capital
from rlm.ledger.calls import KEEP_SECONDS, sent_by
from rlm.ledger.rules import limits_of
from rlm.ledger.store import Store
from rlm.ledger.values import MICROSECONDS

#: A log that begins so much later than calls are kept is as old: no call was made then.
_QUIET_SECONDS = 900


def compliance(store: Store, since_seconds: float) -> Compliance:
    """Judge the calls of the last `since_seconds`, by endpoint and budget; `ok` means that no limit was exceeded.

    Calls count when they were sent, by the clock of Redis. Endpoints that are no longer configured are left out.
    `known_why` says why not all calls are known. The others count, which does not prove that there were not too many.
    """
    now_us, endpoints, changes = store.now_us(), store.endpoints(), store.control.changes()
    now, since_us = now_us / MICROSECONDS, max(0, now_us - round(since_seconds * MICROSECONDS))
    limits = [(each, limits_of(each, changes)) for each in all_limited(endpoints.values())]
    longest = [each.limit.longest_seconds for each, _ in limits]
    longest += [Limit.parse(text).longest_seconds for _, history in limits for _, text in history]
    calls = store.calls.since(max(0, since_us - round(max(longest, default=0.0) * MICROSECONDS)))
    sent = sent_by(calls, endpoints.values())
    judged = {
        each.name: LimitedCompliance(
            calls=sum(moment >= since_us for moment in sent[each.name]),
            rules=tuple(peaks(sent[each.name], each.limit, history, since_us)),
        )
        for each, history in limits
    }
    first, lease = store.calls.begins(), store.leases.read()
    begins = now if first is None else first
    bounds = [(since_us / MICROSECONDS, None), (now - KEEP_SECONDS, f"Calls are kept {KEEP_SECONDS / 3600:g} h")]
    bounds += [(begins, "The log of calls begins then")] if begins > now - KEEP_SECONDS + _QUIET_SECONDS else []
    bounds += [(lease.doubted_at, capital(lease.doubt))] if lease.doubt else []
    known_from, known_why = max(bounds, key=lambda bound: bound[0])
    return Compliance(
        ok=not any(each.exceeded for each in judged.values()),
        since=isoformat(since_us / MICROSECONDS),
        known_from=isoformat(min(known_from, now)),
        known_why=known_why,
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
    """Return from when on and why not all requested calls are known, '' if they are."""
    if not judged.known_why:
        return ""
    return f"{judged.known_why}. Calls before {judged.known_from} are not known, or not all of them."


def peaks(
    stamps: Sequence[int], in_force: Limit, history: Iterable[tuple[float, str]] = (), since_us: int = 0
) -> list[ComplianceRule]:
    """Return, for each rule, those in force first, the fullest period that ends with a call at `since_us` or later.

    `stamps` are the slots in ascending order, microseconds of Redis time. A period is half-open: two calls exactly one
    period apart never share one. It is judged by the limit in force at its last call. `history` lists the earlier
    limits, oldest first, each with its start in seconds; the oldest also applies before its start. Without history,
    `in_force` applies to all calls.
    """

    def none(limit: Limit) -> dict[tuple[int, float], ComplianceRule]:
        return {
            (rule.amount, rule.seconds): ComplianceRule(
                limit=limit.text, amount=rule.amount, period_seconds=rule.seconds, in_force=limit is in_force
            )
            for rule in limit.rules
        }

    by_rule = none(in_force)
    limits = [(round(at * MICROSECONDS), Limit.parse(text)) for at, text in history] or [(0, in_force)]
    begins = [0, *(at for at, _ in limits[1:])]
    for begin, end, (_, limit) in zip(begins, [*begins[1:], math.inf], limits, strict=True):
        first, last = bisect_left(stamps, max(since_us, begin)), bisect_left(stamps, end)
        if first >= last:
            continue
        for key, rule in none(limit).items():
            most, at_us = max(_by_end(stamps, round(rule.period_seconds * MICROSECONDS), first, last))
            if most >= by_rule.setdefault(key, rule).most:
                at, is_exceeded = isoformat(at_us / MICROSECONDS), most > rule.amount
                by_rule[key] = replace(by_rule[key], most=most, at=at, exceeded=is_exceeded)
    return list(by_rule.values())


def _by_end(stamps: Sequence[int], span: int, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Yield, for each of `stamps[first:last]`, how many are in the period that ends with it, and the stamp itself.

    Any fullest period can be shifted to end with a call, so only such periods are counted.
    """
    begin = 0
    for index in range(first, last):
        begin = bisect_left(stamps, stamps[index] - span + 1, begin, index + 1)
        yield index - begin + 1, stamps[index]


def most_in_any(stamps: Sequence[int], span: int) -> int:
    """Return the most of the ascending `stamps` that lie within any half-open interval of length `span`."""
    return max(_by_end(stamps, span, 0, len(stamps)), default=(0, 0))[0]
