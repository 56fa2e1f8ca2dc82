"""The log of calls sent, judged: what `rlm compliance` tells of each endpoint and budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from rlm.clock import isoformat
from rlm.compliance import peaks
from rlm.endpoint import all_limited
from rlm.store.connect import translated
from rlm.store.window import KEEP_SECONDS

if TYPE_CHECKING:
    from rlm.compliance import Peak
    from rlm.endpoint import Limited
    from rlm.store import Store

_MICROSECONDS = 1_000_000
#: More slots than any window holds.
_ALL = 2**31


def compliance(store: Store, since_seconds: float) -> dict[str, Any]:
    """Judge the calls of the last `since_seconds`, by endpoint and budget; `ok` where no limit was exceeded.

    What is counted are slots, by the clock of Redis. Endpoints that are no longer configured are not looked at.

    Raises:
        StoreError: Redis did not answer.
    """
    endpoints = store.endpoints()
    now_us = store.windows.look(())[0]
    since_us = max(0, now_us - round(since_seconds * _MICROSECONDS))
    found = {one.name: _judge(store, one, since_us) for one in all_limited(endpoints.values())}
    return {
        "ok": not any(rule["exceeded"] for one in found.values() for rule in one["rules"]),
        "since_seconds": since_seconds,
        "from": isoformat(since_us / _MICROSECONDS),
        "until": isoformat(now_us / _MICROSECONDS),
        "by_endpoint": {name: one for name, one in found.items() if name in endpoints},
        "by_budget": {name: one for name, one in found.items() if name not in endpoints},
    }


def _judge(store: Store, limited: Limited, since_us: int) -> dict[str, Any]:
    stamps = sorted(store.windows.stamps(limited, _ALL))
    history = store.changes.limits(limited.name)
    with translated():
        kept = cast("bytes | None", store.client.hget(store.keys.health(limited.window_id), "kept_us"))
    return {
        "calls": sum(stamp >= since_us for stamp in stamps),
        "kept_seconds": max(KEEP_SECONDS, int(kept or 0) / _MICROSECONDS),
        "rules": [_rule(peak) for peak in peaks(stamps, limited.limit, history, since_us)],
    }


def _rule(peak: Peak) -> dict[str, Any]:
    return {
        "limit": peak.limit,
        "amount": peak.rule.amount,
        "period_seconds": peak.rule.seconds,
        "in_force": peak.in_force,
        "most": peak.most,
        "at": None if peak.at_us is None else isoformat(peak.at_us / _MICROSECONDS),
        "exceeded": peak.exceeded,
    }
