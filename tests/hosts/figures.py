"""The figures of a trial: how soon a host is noticed, how the work was shared, delays, silences."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.hosts.judge import moment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.hosts.api import SeenCall
    from tests.hosts.judge import TrialEvidence

#: Seconds that a call may be on its way after a slot is free again.
_ON_ITS_WAY = 0.3


def figures(evidence: TrialEvidence) -> dict[str, Any]:
    """Return the figures of each run, and of all; `ghosts` are calls that arrived after their run."""
    return {
        "runs": [_run(evidence, record) for record in evidence.records],
        "calls": len(evidence.calls),
        "repeated": sum(number - 1 for number in Counter(call.key for call in evidence.calls).values()),
        "gone_callers": sum(call.gone for call in evidence.calls),
        "waiting": evidence.waiting,
        "dead": evidence.dead,
    }


def _run(evidence: TrialEvidence, record: Mapping[str, Any]) -> dict[str, Any]:
    every = [call for call in evidence.calls if call.run == record["run_id"]]
    own = [call for call in every if call.at < moment(record["finished_at"]) + _ON_ITS_WAY]
    late = moment(record["finished_at"]) - moment(record["deadline"])
    found: dict[str, Any] = {
        "run": record["run_id"],
        "state": record["state"],
        **{name: record["counts"][name] for name in ("taken", "carried_over", "completed", "leftover")},
        "forecast": record["plan"].get("forecast_seconds"),
        "workers": f"{record['workers']['peak']} of {record['plan'].get('workers')} planned",
        "ghosts": len(every) - len(own),
        "closed_late": round(max(0.0, late), 2),
        "errors": sum(one["errors"] for one in record["by_endpoint"].values()),
        "why": [f"{one['cause']}: {one['leftover']}" for one in record.get("why", [])],
    }
    if own:
        answered = [call.ended for call in own if call.status == 200]
        found["makespan"] = round(max(answered, default=own[0].at) - own[0].at, 2)
        found["first_call"] = round(own[0].at - moment(record["started_at"]), 2)
        found["shares"] = shares(own)
    return found


def shares(calls: Sequence[SeenCall]) -> dict[str, float]:
    """Return the share of the calls that came from each address."""
    counted = Counter(call.host for call in calls)
    return {host: round(number / len(calls), 3) for host, number in sorted(counted.items())}


def went_elsewhere(calls: Sequence[SeenCall], host: str, since: float, until: float) -> dict[str, Any]:
    """Return how long after `since` the calls in flight on `host` were repeated by another, seconds."""
    in_flight = [call for call in calls if call.host == host and call.at <= since < call.ended]
    held = {call.key for call in calls if call.host == host and since - 15 < call.at <= until}
    again = {}
    for call in calls:
        if call.at > since and call.host != host and call.key in held:
            again.setdefault(call.key, call.at - since)
    waits = sorted(again.values())
    middle = waits[len(waits) // 2] if waits else None
    found = {"in_flight": len(in_flight), "events": len(waits)}
    return {**found, "median": middle and round(middle, 2), "last": round(waits[-1], 2) if waits else None}
