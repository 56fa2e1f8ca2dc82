"""Demands on a trial's figures, in addition to the promises: fair shares, quick detection and takeover, as planned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Demand = Callable[[Mapping[str, Any]], Iterator[str]]

#: How many times its share a host may make; and the allowed deviation of a makespan from its plan, as a part of it.
_FAIR, _AS_PLANNED = 1.5, 0.05
#: Seconds by which a run may be closed late.
_LATE = 1.0
#: Calls that lanes had claimed when their host froze, and had not yet sent.
_UNSENT = 2
#: Seconds that a command takes to start and to be repeated: so much later a watcher may see something.
_TO_ASK = 3.0


def in_time(result: Mapping[str, Any]) -> Iterator[str]:
    """Check that no run is closed later than a second after its deadline."""
    for run in result["runs"]:
        if run["closed_late"] > _LATE:
            yield f"{run['run']} was closed {run['closed_late']} s late"


def fair(**capacities: int) -> Demand:
    """Check that no host makes more than 1.5 times its capacity's share of the first run: hosts share by asking."""

    def demand(result: Mapping[str, Any]) -> Iterator[str]:
        shares, whole = result["runs"][0]["shares"], sum(capacities.values())
        for host, capacity in capacities.items():
            share, due = shares.get(result["hosts"][host], 0.0), capacity / whole
            if share > _FAIR * due:
                yield f"{host} made {share:.1%} of the calls instead of {due:.1%}"

    return demand


def done(*runs: int) -> Demand:
    """Check that those runs, counted from 0, leave nothing over."""

    def demand(result: Mapping[str, Any]) -> Iterator[str]:
        for number in runs:
            run = result["runs"][number]
            if run["leftover"]:
                yield f"run {number} left {run['leftover']} over: {run['why']}"

    return demand


def all_but_in_flight(result: Mapping[str, Any]) -> Iterator[str]:
    """Check that the first run leaves over at most what the host had in flight: its short window ends before leases."""
    run, in_flight = result["runs"][0], result["trial_found"]["elsewhere"]["events"] + _UNSENT
    if run["leftover"] > in_flight:
        yield f"run 0 left {run['leftover']} over, {in_flight} were in flight: {run['why']}"


def leaves_at_most(number: int) -> Demand:
    """Check that the first run leaves over at most `number` events: those that waited until a host was missed."""

    def demand(result: Mapping[str, Any]) -> Iterator[str]:
        run = result["runs"][0]
        if run["leftover"] > number:
            yield f"run 0 left {run['leftover']} over, not {number} at most: {run['why']}"

    return demand


def as_planned(result: Mapping[str, Any]) -> Iterator[str]:
    """Check that the first run takes as long as planned."""
    run = result["runs"][0]
    if abs(run["makespan"] - run["forecast"]) > _AS_PLANNED * run["forecast"]:
        yield f"{run['makespan']} s instead of {run['forecast']} s"


def noticed(*commands: str, within: float) -> Demand:
    """Check that each command names the host in time, and that its calls in flight are repeated by then."""

    def demand(result: Mapping[str, Any]) -> Iterator[str]:
        found = result["trial_found"]
        for one in [found] if "host" in found else found.values():
            for command in commands:
                after = one["named_after"].get(command)
                if after is None or after > within + _TO_ASK:
                    yield f"`rlm {command}` named {one['host']} after {after} s"
            if (one["elsewhere"]["last"] or 0.0) > within:
                yield f"what {one['host']} had came again after {one['elsewhere']['last']} s"

    return demand


def workers_within(most: int) -> Demand:
    """Check that there are never more than `most` workers."""

    def demand(result: Mapping[str, Any]) -> Iterator[str]:
        if result["most_workers"] > most:
            yield f"{result['most_workers']} workers instead of {most} at the most"

    return demand


def back_soon(result: Mapping[str, Any]) -> Iterator[str]:
    """Check that, when Redis is back, an overdue run is closed within 2 s, and calls continue within 5 s."""
    found = result["trial_found"]
    if found["closed_after"] > 2 and result["runs"][0]["closed_late"] > _LATE:
        yield f"closed {found['closed_after']} s after Redis was back"
    if found["first_call_after"] > 5:
        yield f"no call for {found['first_call_after']} s after Redis was back"
