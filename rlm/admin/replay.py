"""A replay: the question of `rlm plan` for finished runs. It plans each run again from its record.

A record has the counts by type, the limits, and by endpoint the calls, failures and durations. The rest comes from the
settings: the workers, the order of endpoints. Two replays are compared, one without a change and one with it. How well
the first agrees with the records shows how far the second can be trusted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from msgspec.structs import replace

from rlm.admin.whatif import Case, expected_with, limits_told, told
from rlm.core.clock import timestamp
from rlm.core.endpoint import EventType, in_force
from rlm.core.expected import HIGHEST_ERROR_RATE, Expected, Pair
from rlm.core.run import State
from rlm.core.text import counted, named
from rlm.core.window import FAILING, WindowState
from rlm.plan import carried
from rlm.plan.cause import ATTEMPTS, DEADLINE, STOPPED
from rlm.plan.simulate import Course
from rlm.plan.situation import FRESH
from rlm.plan.waits import Obstacle
from rlm.plan.window import SECOND

#: Final states of runs that had their whole window or finished earlier.
_WHOLE = frozenset({State.COMPLETED, State.PARTIAL})
#: A run has the window of its record unless an option sets this setting.
_WINDOW = "run.window_seconds"
_NO_EVENTS = dict.fromkeys(("taken", "carried_over", "completed", "failed", "leftover"), 0)
#: Causes of leftovers that a plan knows; no replay includes other causes.
_KNOWN = frozenset({Obstacle.LIMIT, Obstacle.BUDGET, Obstacle.LANES, Obstacle.START, ATTEMPTS, DEADLINE})
#: Fields that a record must have beyond the minimum, because planning needs them.
_NEEDED = {"plan", "window_seconds"}
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Played:
    """A run: its events, its leftovers, and the seconds from its first call to its last answer, 0 without one."""

    events: int
    leftover: int
    finish_seconds: float


@dataclass(frozen=True, slots=True)
class ReplayedRun:
    """A run by its record, by the replay without a change, and by the replay with the change, if one was asked for.

    `as_recorded`: it was cancelled or failed, so its completed events come from the record, not from a plan.
    """

    run_id: str
    state: str
    as_recorded: bool
    recorded: Played
    unchanged: Played
    what_if: Played | None


@dataclass(frozen=True, slots=True)
class Replay:
    """The replayed runs, oldest first. `case` is the change that was asked for; None if there was none.

    `unknown` counts the causes that no replay includes; `former` are called endpoints that are no longer configured.
    """

    runs: tuple[ReplayedRun, ...]
    asked: int
    case: Case | None
    unknown: Mapping[str, int]
    former: tuple[str, ...]

    @property
    def left_over(self) -> dict[str, int | None]:
        """Events left over, summed over the runs: an event that several runs leave over counts in each."""
        return {
            "recorded": sum(one.recorded.leftover for one in self.runs),
            "unchanged": sum(one.unchanged.leftover for one in self.runs),
            "what_if": sum(one.what_if.leftover for one in self.runs if one.what_if) if self.case else None,
        }

    @property
    def fewer(self) -> int | None:
        """How many fewer events would have been left over, negative for more; None if no change was asked for."""
        left = self.left_over
        return None if left["what_if"] is None else (left["unchanged"] or 0) - left["what_if"]

    @property
    def off_seconds(self) -> float | None:
        """The median error of the unchanged replay about the end of a run; None if no end is known."""
        ends = [
            abs(one.unchanged.finish_seconds - one.recorded.finish_seconds)
            for one in self.runs
            if one.recorded.finish_seconds and one.unchanged.finish_seconds and not one.as_recorded
        ]
        return median(ends) if ends else None

    @property
    def sentence(self) -> str:
        """The answer in one sentence."""
        if not self.runs:
            return "No run is on record yet, so there is nothing to replay."
        several, unchanged = len(self.runs) > 1, self.left_over["unchanged"] or 0
        of_runs = f"the last {counted(len(self.runs), 'run')}" if several else "the last run"
        if self.case is None or self.fewer is None:
            as_was = "they were" if several else "it was"
            return f"Replayed as {as_was}, {of_runs} would have left {unchanged:,} over."
        then = f"With {self.case.assumptions}, {of_runs} would have left"
        if not self.fewer:
            return f"{then} as many over: {unchanged:,}."
        word = "fewer" if self.fewer > 0 else "more"
        return f"{then} {abs(self.fewer):,} {word} over: {unchanged - self.fewer:,} instead of {unchanged:,}."

    @property
    def notes(self) -> list[str]:
        """Notes on the answer, in sentences; the first says how well replay and records agree."""
        return list(self._notes()) if self.runs else []

    def as_json(self) -> dict[str, Any]:
        """Return the document that `rlm plan --replay N --json` prints."""
        document = {
            "runs": len(self.runs),
            "asked": self.asked,
            "sentence": self.sentence,
            "notes": self.notes,
            "left_over": self.left_over,
            "fewer": self.fewer,
            "off_seconds": None if self.off_seconds is None else round(self.off_seconds, 3),
            "each": [asdict(one) for one in self.runs],
        }
        return {"replay": document, **({"what_if": self.case.assumed()} if self.case else {})}

    def _notes(self) -> Iterator[str]:
        left, off = self.left_over, self.off_seconds
        end = "" if off is None else f", and misses the end of a run by {off:.1f} s in the median"
        yield (
            f"Without any change the replay leaves {left['unchanged']:,} over where the records have "
            f"{left['recorded']:,}{end}."
        )
        if self.case:
            yield "The difference is between two replays: what else happened in those runs is in neither."
        if left["unchanged"] and len(self.runs) > 1:
            unchanged, what_if = self.runs[-1].unchanged.leftover, self.runs[-1].what_if
            leaves = f"{unchanged:,}" if what_if is None else f"{what_if.leftover:,} instead of {unchanged:,}"
            yield f"An event left over by several runs counts in each; the last of them leaves {leaves}."
        if len(self.runs) < self.asked:
            yield f"{self.asked:,} runs were asked for; {len(self.runs):,} on record can be read."
        if ended := sum(one.as_recorded for one in self.runs):
            yield f"{counted(ended, 'run')} ended before their time: what they completed is taken from the record."
        if self.unknown:
            causes = ", ".join(f"{word} ({counted(number, 'run')})" for word, number in self.unknown.items())
            yield f"Events were also left over for causes that no replay knows: {causes}."
        if self.former:
            are = "is" if len(self.former) == 1 else "are"
            yield f"{named(self.former, _MOST_NAMED)} {are} no longer configured, and not in the replay."


def replay(records: Sequence[Mapping[str, Any]], asked: int, today: Case, other: Case | None = None) -> Replay:
    """Replay the runs of `records`, newest first; `asked` runs were asked for.

    `today` is the case without a change, `other` the case with it. Their windows are not used: each run begins with
    those that the run before it left. A record more than `asked` gives those of the oldest run; else they are open.
    """
    unchanged, changed = _Chain(today, None), _Chain(today, other)
    played = []
    records = [one for one in records if one.keys() >= _NEEDED]
    for one in records[asked : asked + 1]:
        (earlier := _Chain(today, None)).play(one)
        unchanged.before = changed.before = earlier.before
    records = records[:asked]
    for record in reversed(records):
        counts = [_counts(record, kind.name) for kind in today.types]
        taken, again, left = (sum(one[key] for one in counts) for key in ("taken", "carried_over", "leftover"))
        recorded = Played(taken + again, left, float(record["plan"].get("actual_seconds", 0.0)))
        now, then = unchanged.play(record), changed.play(record) if other else None
        played.append(ReplayedRun(record["run_id"], record["state"], _is_cut_short(record), recorded, now, then))
    whole = (one for one in records if not _is_cut_short(one))
    unknown = Counter(word for one in whole for word in {why["cause"] for why in one.get("why", ())} - _KNOWN)
    called = {name for record in records for name, one in record["by_endpoint"].items() if one["calls"]}
    former = tuple(sorted(called - _names(today.types)))
    return Replay(tuple(played), asked, other, dict(unknown.most_common()), former)


class _Chain:
    """One replay of several runs: each begins with the leftovers and the windows of the run before."""

    def __init__(self, today: Case, other: Case | None) -> None:
        self._today = today
        self._other = other
        self._left: Mapping[str, int] = {}
        self._left_then: Mapping[str, int] = {}
        self._known: dict[Pair, Expected] = {}
        #: The run before: its case, its course, and when it began, in seconds since 1970.
        self.before: tuple[Case, Course, float] | None = None

    def play(self, record: Mapping[str, Any]) -> Played:
        """Plan the next run; if it was cut short, take its completed events from the record."""
        case = self._case(record)
        counts = {kind.name: _counts(record, kind.name) for kind in self._today.types}
        # Events dropped by hand before the run are dropped in the replay too.
        more = {name: self._left.get(name, 0) - self._left_then.get(name, 0) for name in counts}
        events = {name: max(0, one["taken"] + one["carried_over"] + more[name]) for name, one in counts.items()}
        if _is_cut_short(record):
            settled = {name: one["completed"] + one["failed"] for name, one in counts.items()}
            course = Course(left={name: max(0, number - settled[name]) for name, number in events.items()})
            finish_seconds = float(record["plan"].get("actual_seconds", 0.0))
        else:
            told_seconds = case.settings.run.window_seconds if _WINDOW in told(case.settings) else None
            course = case.course(events, told_seconds or record["window_seconds"])
            first_call = min((start.at for start in course.starts), default=0)
            finish_seconds = max(0, course.forecast - first_call) / SECOND
        self._left, self._left_then = course.left, {name: one["leftover"] for name, one in counts.items()}
        self.before = case, course, timestamp(record["started_at"])
        return Played(sum(events.values()), course.leftover, finish_seconds)

    def _case(self, record: Mapping[str, Any]) -> Case:
        """Return the case of the run: limits, durations and failures as recorded, unless an option sets them."""
        today, other = self._today, self._other
        here = _names(today.types)
        self._known |= _measured(record, today.types)
        case = replace(today, types=_as_recorded(today.types, record, here), expected={**today.expected, **self._known})
        if other:
            but = limits_told(other.settings) | {one.name for one in other.added}
            types = _as_recorded(other.types, record, here, but)
            case = replace(other, types=types, expected=expected_with(case, types, other.settings, other.added))
        return replace(case, windows=self._windows(case, record))

    def _windows(self, case: Case, record: Mapping[str, Any]) -> dict[str, WindowState]:
        """Return the windows that the run before left; endpoints that only failed in this run are suspect."""
        found: dict[str, WindowState] = {}
        if self.before:
            before, course, began_at = self.before
            ended = max((start.at + start.takes for start in course.starts), default=0) / SECOND
            seconds = max(timestamp(record["started_at"]) - began_at, ended)  # not before the end of the run
            found = carried(before.workload({}), course.starts, seconds, before.settings.run.guard_seconds)
        called = record["by_endpoint"].items()
        down = {name for name, one in called if not one["completed"] and _failing(record, name) >= FAILING}
        return found | {name: replace(found.get(name, FRESH), suspect=name in down) for name in _names(case.types)}


def _names(types: Iterable[EventType]) -> set[str]:
    return {one.name for kind in types for one in kind.endpoints}


def _as_recorded(
    types: Iterable[EventType], record: Mapping[str, Any], here: Container[str], but: Container[str] = ()
) -> tuple[EventType, ...]:
    """Return the types with the limits of the record, except those of the endpoints and budgets in `but`.

    Endpoints that are `here` today but not in the record are left out: they were added later.
    """
    recorded = record["by_endpoint"] | record.get("by_budget", {})
    limits = {name: one["limit"] for name, one in recorded.items() if name not in but}
    found = []
    for kind in types:
        then = tuple(one for one in kind.endpoints if one.name in recorded or one.name not in here)
        found.append(replace(kind, endpoints=tuple(in_force(one, limits) for one in then or kind.endpoints)))
    return tuple(found)


def _measured(record: Mapping[str, Any], types: Iterable[EventType]) -> dict[Pair, Expected]:
    """Return the expected calls by the record, which combines the figures of an endpoint for all its types."""
    found = {}
    for kind in types:
        for name in (one.name for one in kind.endpoints):
            if (one := record["by_endpoint"].get(name)) and one["completed"]:
                failing = _failing(record, name)
                rate = min(HIGHEST_ERROR_RATE, failing / (one["completed"] + failing))
                found[kind.name, name] = Expected(one["p50_ms"] / 1000, one["p95_ms"] / 1000, rate)
    return found


def _failing(record: Mapping[str, Any], endpoint: str) -> float:
    """Return about how many calls to an endpoint failed temporarily.

    A record counts them together with those that caused a dead letter; it has the sum of the latter for all endpoints.
    """
    errors = sum(one["errors"] for one in record["by_endpoint"].values())
    part = max(0.0, 1 - record["counts"]["failed"] / errors) if errors else 0.0
    return part * float(record["by_endpoint"][endpoint]["errors"])


def _counts(record: Mapping[str, Any], name: str) -> Mapping[str, int]:
    return record["by_type"].get(name) or _NO_EVENTS


def _is_cut_short(record: Mapping[str, Any]) -> bool:
    """Return whether a run ended early: no plan can show what it would have done."""
    return record["state"] not in _WHOLE or any(one["cause"] == STOPPED for one in record.get("why", ()))
