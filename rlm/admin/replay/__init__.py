"""A replay: the question of `rlm plan`, asked of finished runs. It plans each of them again, from its record.

A record has the counts by type, the limits, and by endpoint the calls, the failures and the durations. What it does not
have is taken from the settings: the workers, the order of endpoints. Two replays are compared, one as it was and one as
it might have been; how well the former agrees with the records tells how far the latter can be believed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from rlm.admin.replay.chain import Chain, Played, is_cut_short
from rlm.core.text import counted, named
from rlm.plan.cause import ATTEMPTS, DEADLINE
from rlm.plan.waits import Obstacle

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rlm.admin.whatif import Case

#: Why events are left over as far as a plan knows it; whatever else kept them from being sent is in no replay.
_KNOWN = frozenset({Obstacle.LIMIT, Obstacle.BUDGET, Obstacle.LANES, Obstacle.START, ATTEMPTS, DEADLINE})
#: What a record has beyond the least that anything called one has; without it there is nothing to plan.
_NEEDED = {"plan", "window_seconds"}
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class ReplayedRun:
    """A run as its record has it, as the replay without a change has it, and with what was asked, if anything was.

    `as_recorded`: it was cancelled or failed, so that what it completed is taken from the record and not planned.
    """

    run_id: str
    state: str
    as_recorded: bool
    recorded: Played
    unchanged: Played
    what_if: Played | None

    @property
    def last(self) -> Played:
        """The run in the last of the replays."""
        return self.what_if or self.unchanged


@dataclass(frozen=True, slots=True)
class Replay:
    """The runs, oldest first, replayed. `case` is what was asked, None if nothing was: then there is no what-if.

    `unknown` has the causes that no replay knows, and `former` the endpoints called that are no longer configured.
    """

    runs: tuple[ReplayedRun, ...]
    asked: int
    case: Case | None
    unknown: Mapping[str, int]
    former: tuple[str, ...]

    @property
    def left_over(self) -> dict[str, int | None]:
        """Events left over, summed over the runs: an event that several leave over counts in each."""
        return {
            "recorded": sum(one.recorded.leftover for one in self.runs),
            "unchanged": sum(one.unchanged.leftover for one in self.runs),
            "what_if": sum(one.last.leftover for one in self.runs) if self.case else None,
        }

    @property
    def fewer(self) -> int | None:
        """How many fewer would have been left over, below zero for more; None if no change was asked for."""
        return sum(one.unchanged.leftover - one.last.leftover for one in self.runs) if self.case else None

    @property
    def off_seconds(self) -> float | None:
        """By how much the replay without a change misses the end of a run, the median; None if no end is known."""
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
        unchanged, of_runs = self.left_over["unchanged"] or 0, self._of_runs
        if self.case is None or self.fewer is None:
            as_it_was = "as they were" if len(self.runs) > 1 else "as it was"
            return f"Replayed {as_it_was}, {of_runs} would have left {unchanged:,} over."
        then = f"With {self.case.assumptions}, {of_runs} would have left"
        if not self.fewer:
            return f"{then} as many over: {unchanged:,}."
        word = "fewer" if self.fewer > 0 else "more"
        return f"{then} {abs(self.fewer):,} {word} over: {unchanged - self.fewer:,} instead of {unchanged:,}."

    @property
    def notes(self) -> list[str]:
        """What is to be known about the answer, in sentences; the first says how well replay and records agree."""
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

    @property
    def _of_runs(self) -> str:
        return f"the last {counted(len(self.runs), 'run')}" if len(self.runs) > 1 else "the last run"

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
            last = self.runs[-1]
            instead = f" instead of {last.unchanged.leftover:,}" if self.case else ""
            leaves = f"the last of them leaves {last.last.leftover:,}{instead}"
            yield f"An event left over by several runs counts in each; {leaves}."
        if len(self.runs) < self.asked:
            yield f"{self.asked:,} runs were asked for; {len(self.runs):,} on record can be read."
        if ended := sum(one.as_recorded for one in self.runs):
            yield f"{counted(ended, 'run')} ended before the time: what was completed there is taken from the record."
        if self.unknown:
            causes = ", ".join(f"{word} ({counted(number, 'run')})" for word, number in self.unknown.items())
            yield f"Events were also left over for causes that no replay knows: {causes}."
        if self.former:
            were = "is" if len(self.former) == 1 else "are"
            yield f"{named(self.former, _MOST_NAMED)} {were} no longer configured, and not in the replay."


def replay(records: Sequence[Mapping[str, Any]], asked: int, today: Case, other: Case | None = None) -> Replay:
    """Replay the runs of `records`, newest first, of which `asked` were asked for.

    `today` is the case without a change, `other` what would have been if. Their windows do not matter: each run begins
    with those that the one before it left, the oldest with open ones.
    """
    unchanged, changed = Chain(today, None), Chain(today, other)
    played = []
    records = [one for one in records if one.keys() >= _NEEDED]
    for record in reversed(records):
        now = unchanged.play(record)
        then = changed.play(record) if other else None
        recorded = Played.recorded(record, today.types)
        played.append(ReplayedRun(record["run_id"], record["state"], is_cut_short(record), recorded, now, then))
    return Replay(tuple(played), asked, other, _unknown(records), _former(records, today))


def _unknown(records: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Count the runs by cause of leftovers that no replay knows, the most frequent first."""
    whole = (one for one in records if not is_cut_short(one))
    found = Counter(word for one in whole for word in {why["cause"] for why in one.get("why", ())} - _KNOWN)
    return dict(found.most_common())


def _former(records: Iterable[Mapping[str, Any]], today: Case) -> tuple[str, ...]:
    here = {one.name for kind in today.types for one in kind.endpoints}
    called = {name for record in records for name, one in record["by_endpoint"].items() if one["calls"]}
    return tuple(sorted(called - here))
