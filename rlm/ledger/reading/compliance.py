"""The log of calls sent, judged: the most calls in any period, against the limit, of each endpoint and budget."""

from __future__ import annotations

from rlm.core.clock import isoformat, timestamp
from rlm.core.documents import Compliance, ComplianceRule, LimitedCompliance, Record
from rlm.core.endpoint import Limit, all_limited
from rlm.core.text import capital
from rlm.core.window import Peak, peaks
from rlm.ledger.calls import KEEP_SECONDS
from rlm.ledger.rules import limits_of
from rlm.ledger.store import Store
from rlm.ledger.values import MICROSECONDS

#: A log that begins so much later than calls are kept is as old: no call was made then.
_QUIET_SECONDS = 900


def compliance(store: Store, since_seconds: float) -> Compliance:
    """Judge the calls of the last `since_seconds`, by endpoint and budget; `ok` means that no limit was exceeded.

    Periods that end since then are judged, by the limits in force then; those that began before it count. Calls count
    when they were sent, by the clock of Redis. Endpoints that are no longer configured are left out. All calls are
    known from `known_from` on; `known_why` says why not earlier, or is None. Earlier calls count as far as they are
    known, which does not prove that there were not too many.
    """
    now_us, endpoints, changes = store.now_us(), store.endpoints(), store.control.changes()
    now, since_us = now_us / MICROSECONDS, max(0, now_us - round(since_seconds * MICROSECONDS))
    limits = [(each, limits_of(each, changes)) for each in all_limited(endpoints.values())]
    longest = [each.limit.longest_seconds for each, _ in limits]
    longest += [Limit.parse(text).longest_seconds for _, history in limits for _, text in history]
    sent = store.calls.sent_each(
        [each for each, _ in limits], max(0, since_us - round(max(longest, default=0.0) * MICROSECONDS))
    )
    judged = {
        each.name: LimitedCompliance(
            calls=sum(moment >= since_us for moment in sent[each.name]),
            rules=tuple(map(_rule, peaks(sent[each.name], each.limit, history, since_us))),
        )
        for each, history in limits
    }
    first, doubt = store.calls.begins(), store.leases.doubt()
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
        until=isoformat(now),
        by_endpoint={name: each for name, each in judged.items() if name in endpoints},
        by_budget={name: each for name, each in judged.items() if name not in endpoints},
    )


def _rule(peak: Peak) -> ComplianceRule:
    return ComplianceRule(
        limit=peak.limit,
        amount=peak.rule.amount,
        period_seconds=peak.rule.seconds,
        in_force=peak.in_force,
        most=peak.most,
        at=None if peak.at_us is None else isoformat(peak.at_us / MICROSECONDS),
        exceeded=peak.exceeded,
    )


def excess_of(store: Store, record: Record) -> dict[str, int]:
    """Return by endpoint and budget by how much its limit was exceeded since the run of `record` began, 0 if kept.

    What was sent before endpoints were last held does not count: slots that were ahead of a clock set back have its
    time.
    """
    doubt, since = store.leases.doubt(), timestamp(record.started_at)
    judged = compliance(store, max(0.0, store.now() - max(since, doubt.at if doubt else 0.0)))
    return {name: max(0, *(rule.most - rule.amount for rule in each.rules)) for name, each in judged.limited.items()}


def exceeded(judged: Compliance) -> list[str]:
    """Return the endpoints and budgets whose limit was exceeded."""
    return [name for name, each in judged.limited.items() if any(rule.exceeded for rule in each.rules)]


def gap(judged: Compliance) -> str:
    """Return from when on and why not all requested calls are known, '' if they are."""
    if not judged.known_why:
        return ""
    return f"{judged.known_why}. Calls before {judged.known_from} are not known, or not all of them."
