"""What is demanded of a trial's figures, beside the promises: fair shares, soon noticed, soon elsewhere, as planned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Demand = Callable[[Mapping[str, Any]], Iterator[str]]

#: How far a share may be from that of the host's capacity, and a makespan from what was planned, parts of 1.
_FAIR, _AS_PLANNED = 0.10, 0.05
#: How late a run may be closed, seconds.
_LATE = 1.0
#: What a command takes to start and to be asked again, seconds: so much later a watcher may see it.
_TO_ASK = 3.0


def in_time(result: Mapping[str, Any]) -> Iterator[str]:
    """No run is closed later than a second after its deadline."""
    for run in result["runs"]:
        if run["closed_late"] > _LATE:
            yield f"{run['run']} was closed {run['closed_late']} s late"


def fair(**capacities: int) -> Demand:
    """Each host's share of the first run is within a tenth of its capacity's."""

    def demand(result: Mapping[str, Any]) -> Iterator[str]:
        shares, whole = result["runs"][0]["shares"], sum(capacities.values())
        for host, capacity in capacities.items():
            share, due = shares.get(result["hosts"][host], 0.0), capacity / whole
            if abs(share - due) > _FAIR * due:
                yield f"{host} made {share:.1%} of the calls instead of {due:.1%}"

    return demand


def done(*runs: int) -> Demand:
    """Those runs, counted from 0, leave nothing over."""

    def demand(result: Mapping[str, Any]) -> Iterator[str]:
        for number in runs:
            run = result["runs"][number]
            if run["leftover"]:
                yield f"run {number} left {run['leftover']} over: {run['why']}"

    return demand


def all_but_in_flight(result: Mapping[str, Any]) -> Iterator[str]:
    """The first run leaves no more over than what the host had in flight: a window of a tenth ends before leases do."""
    run, in_flight = result["runs"][0], result["trial_found"]["elsewhere"]["events"]
    if run["leftover"] > in_flight:
        yield f"run 0 left {run['leftover']} over, {in_flight} were in flight: {run['why']}"


def leaves_at_most(number: int) -> Demand:
    """The first run leaves no more over than that: what could not be done until a host was missed."""

    def demand(result: Mapping[str, Any]) -> Iterator[str]:
        run = result["runs"][0]
        if run["leftover"] > number:
            yield f"run 0 left {run['leftover']} over, not {number} at most: {run['why']}"

    return demand


def as_planned(result: Mapping[str, Any]) -> Iterator[str]:
    """The first run takes what its plan says."""
    run = result["runs"][0]
    if abs(run["makespan"] - run["forecast"]) > _AS_PLANNED * run["forecast"]:
        yield f"{run['makespan']} s instead of {run['forecast']} s"


def undelayed(result: Mapping[str, Any]) -> Iterator[str]:
    """The first run takes hardly longer than it was planned, or than the next one, in which no host is in trouble."""
    first, after = result["runs"][:2]
    if first["makespan"] > (1 + _AS_PLANNED) * max(first["forecast"], after["makespan"]):
        yield f"{first['makespan']} s instead of {first['forecast']} s, or {after['makespan']} s as without trouble"


def noticed(*commands: str, within: float) -> Demand:
    """Each of the commands names the host within so many seconds, and what it had in flight comes again by then."""

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
    """There are never more workers than that."""

    def demand(result: Mapping[str, Any]) -> Iterator[str]:
        if result["most_workers"] > most:
            yield f"{result['most_workers']} workers instead of {most} at the most"

    return demand


def back_soon(result: Mapping[str, Any]) -> Iterator[str]:
    """When Redis is back, the run that has had its time is closed within 2 s, and calls go on within 5 s."""
    found = result["trial_found"]
    if found["closed_after"] > 2 and result["runs"][0]["closed_late"] > _LATE:
        yield f"closed {found['closed_after']} s after Redis was back"
    if found["first_call_after"] > 5:
        yield f"no call for {found['first_call_after']} s after Redis was back"
