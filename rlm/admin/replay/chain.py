"""One replay, run after run: what each was planned with, from its record, and what it hands on to the next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rlm.admin.whatif import expected_with, limits_told, told
from rlm.core.clock import timestamp
from rlm.core.endpoint import in_force
from rlm.core.expected import HIGHEST_ERROR_RATE, Expected
from rlm.core.run import State
from rlm.core.window import FAILING
from rlm.plan import carried
from rlm.plan.cause import STOPPED
from rlm.plan.simulate import Course
from rlm.plan.situation import FRESH
from rlm.plan.window import SECOND

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from rlm.admin.whatif import Case
    from rlm.core.endpoint import EventType
    from rlm.core.expected import Pair
    from rlm.core.window import WindowState

#: Final states of runs that had their whole window, or needed less.
_WHOLE = frozenset({State.COMPLETED, State.PARTIAL})
#: A run has the window of its record unless this setting is told.
_WINDOW = "run.window_seconds"
_NO_EVENTS = dict.fromkeys(("taken", "carried_over", "completed", "failed", "leftover"), 0)


@dataclass(frozen=True, slots=True)
class Played:
    """A run: its events, those left over, and the seconds from its first call to its last answer, 0 without one."""

    events: int
    leftover: int
    finish_seconds: float

    @classmethod
    def recorded(cls, record: Mapping[str, Any], types: Iterable[EventType]) -> Played:
        """Return a run as its record has it, its events of these types."""
        counts = [_counts(record, kind.name) for kind in types]
        events = sum(one["taken"] + one["carried_over"] for one in counts)
        return cls(events, sum(one["leftover"] for one in counts), _finish(record))


class Chain:
    """One replay of several runs: each begins with what the one before left over, and with the windows it left."""

    def __init__(self, today: Case, other: Case | None) -> None:
        self._today = today
        self._other = other
        self._left: Mapping[str, int] = {}
        self._left_then: Mapping[str, int] = {}
        self._known: dict[Pair, Expected] = {}
        self._before: _Ran | None = None

    def play(self, record: Mapping[str, Any]) -> Played:
        """Plan the next run; if it was cut short, take what it completed from its record."""
        case = self._case(record)
        events = {kind.name: self._events(kind.name, _counts(record, kind.name)) for kind in self._today.types}
        if is_cut_short(record):
            settled = {name: sum(_counts(record, name)[key] for key in ("completed", "failed")) for name in events}
            course = Course(left={name: max(0, number - settled[name]) for name, number in events.items()})
            finish_seconds = _finish(record)
        else:
            told_seconds = case.settings.run.window_seconds if _WINDOW in told(case.settings) else None
            course = case.course(events, told_seconds or record["window_seconds"])
            first_call = min((start.at for start in course.starts), default=0)
            finish_seconds = max(0, course.forecast - first_call) / SECOND
        self._left = course.left
        self._left_then = {name: _counts(record, name)["leftover"] for name in events}
        self._before = _Ran(case, course, timestamp(record["started_at"]))
        return Played(sum(events.values()), course.leftover, finish_seconds)

    def _events(self, name: str, counts: Mapping[str, int]) -> int:
        """Return what the run has of a type. What was dropped by hand before it is dropped in the replay as well."""
        between = counts["carried_over"] - self._left_then.get(name, 0)
        return max(0, counts["taken"] + self._left.get(name, 0) + between)

    def _case(self, record: Mapping[str, Any]) -> Case:
        """Return what the run was planned with: limits, durations and failures as recorded, unless told otherwise."""
        today, other = self._today, self._other
        here = {one.name for kind in today.types for one in kind.endpoints}
        self._known |= _measured(record, today.types)
        case = replace(today, types=_as_recorded(today.types, record, here), expected={**today.expected, **self._known})
        if other:
            but = limits_told(other.settings) | {one.name for one in other.added}
            types = _as_recorded(other.types, record, here, but)
            case = replace(other, types=types, expected=expected_with(case, types, other.settings, other.added))
        return replace(case, windows=self._windows(case, record))

    def _windows(self, case: Case, record: Mapping[str, Any]) -> dict[str, WindowState]:
        """Return the windows as the run before left them, those shut that answered no call of this run well."""
        found = self._before.windows_at(timestamp(record["started_at"])) if self._before else {}
        called = record["by_endpoint"].items()
        down = {name for name, one in called if not one["completed"] and _failing(record, name) >= FAILING}
        names = {one.name for kind in case.types for one in kind.endpoints}
        return found | {name: replace(found.get(name, FRESH), suspect=name in down) for name in names}


@dataclass(frozen=True, slots=True)
class _Ran:
    """A run of a replay: the case, its course, and when it began, seconds since 1970."""

    case: Case
    course: Course
    began_at: float

    def windows_at(self, moment: float) -> dict[str, WindowState]:
        """Return the windows of the next run, which begins then, but not before this one has ended."""
        case, starts = self.case, self.course.starts
        ended = max((start.at + start.takes for start in starts), default=0) / SECOND
        seconds = max(moment - self.began_at, ended)
        return carried(case.workload({}), starts, seconds, case.settings.run.guard_seconds)


def _as_recorded(
    types: Iterable[EventType], record: Mapping[str, Any], here: Container[str], but: Container[str] = ()
) -> tuple[EventType, ...]:
    """Return the types with the limits of the record, except of those named in `but`.

    Of the endpoints that are `here` today, those are left out that the record does not have: they came later.
    """
    recorded = record["by_endpoint"] | record.get("by_budget", {})
    limits = {name: one["limit"] for name, one in recorded.items() if name not in but}
    found = []
    for kind in types:
        then = tuple(one for one in kind.endpoints if one.name in recorded or one.name not in here)
        found.append(replace(kind, endpoints=tuple(in_force(one, limits) for one in then or kind.endpoints)))
    return tuple(found)


def _measured(record: Mapping[str, Any], types: Iterable[EventType]) -> dict[Pair, Expected]:
    """Return what the calls of a run were like. A record has the figures of an endpoint for all its types together."""
    found = {}
    for kind in types:
        for name in (one.name for one in kind.endpoints):
            if (one := record["by_endpoint"].get(name)) and one["completed"]:
                failing = _failing(record, name)
                rate = min(HIGHEST_ERROR_RATE, failing / (one["completed"] + failing))
                found[kind.name, name] = Expected(one["p50_ms"] / 1000, one["p95_ms"] / 1000, rate)
    return found


def _failing(record: Mapping[str, Any], endpoint: str) -> float:
    """Return about how many calls to an endpoint failed for the moment.

    A record counts them together with those that made a dead letter, of which it has the sum over all endpoints.
    """
    errors = sum(one["errors"] for one in record["by_endpoint"].values())
    part = max(0.0, 1 - record["counts"]["failed"] / errors) if errors else 0.0
    return part * float(record["by_endpoint"][endpoint]["errors"])


def _counts(record: Mapping[str, Any], name: str) -> Mapping[str, int]:
    return record["by_type"].get(name) or _NO_EVENTS


def _finish(record: Mapping[str, Any]) -> float:
    return float(record["plan"].get("actual_seconds", 0.0))


def is_cut_short(record: Mapping[str, Any]) -> bool:
    """Return whether a run ended before its time: no plan says what it would have done."""
    return record["state"] not in _WHOLE or any(one["cause"] == STOPPED for one in record.get("why", ()))
