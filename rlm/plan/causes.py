"""Why events are left over: what they wait for at each look of the conductor, and a sentence at the end. Pure.

The conductor looks once a second. Each look finds, by type, the one reason why a waiting event is not under way, and
adds the seconds since the look before to it. At the end of the run the reason with the most seconds has the leftovers
of its type, except for events that had all their attempts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from rlm.core.call import Expected, Pair, expected_of
from rlm.core.documents import Cause, Reasons
from rlm.core.endpoint import Circuit, EventType, WindowState, all_limited, shut_by
from rlm.core.item import Counts
from rlm.core.run import Run, Waited
from rlm.core.text import counted, named
from rlm.plan.situation import Underway

#: The reasons, which are the fields of `Reasons`, in the words of the sentence about the leftovers of some types.
SENTENCES: Final = {
    "slots": "the limits let no more through",
    "lanes": "all lanes were busy",
    "resting": "no endpoint was free, and at least one was resting or probed",
    "paused": "no endpoint was free, and at least one was paused",
    "held": "no endpoint was free, and at least one was held, because its window could not be trusted",
    "retries": "their calls failed, and had no further try in the run",
    "workers": "no worker was ready, or nobody conducted",
    "redis": "Redis was away, slow or not fit",
}
#: If Redis takes longer for an answer, seconds, idle lanes wait for it; busy ones, if it is half of a call.
SLOW_SECONDS: Final = 0.05


class Look(msgspec.Struct, frozen=True):
    """What the conductor of a run sees at one look, `left_seconds` before the deadline.

    `counts` are by type, `windows` by the name of endpoint or budget, `types` have the limits in force, and `calls` are
    under way. The workers that are ready for the run and do not sleep have the `lanes`; `shortage` says how many are
    missing, empty if they are on their way. The hosts take `room`, if that is known. `is_away`: Redis was away or not
    fit since the last look; it took `answer_seconds` to answer.
    """

    counts: Mapping[str, Counts]
    windows: Mapping[str, WindowState]
    lanes: int
    left_seconds: float
    types: Sequence[EventType] = ()
    expected: Mapping[Pair, Expected] = {}
    calls: Sequence[Underway] = ()
    workers: int = 0
    shortage: str = ""
    is_away: bool = False
    answer_seconds: float = 0.0
    room: int | None = None


def reason_of(look: Look, kind: EventType) -> str:
    """Return why an event of a type is not done; empty if none is waiting or under way, or one is about to go."""
    if not (count := look.counts[kind.name]).pending:
        return "lanes" if count.inflight else "retries" if count.backing_off else ""
    places = [[look.windows[each.name] for each in all_limited([end])] for end in kind.endpoints]
    has_slot = any(all(window.free > 0 or window.wait_seconds <= 0 for window in place) for place in places)
    is_busy = 0 < look.lanes <= sum(count.inflight for count in look.counts.values())
    shortest = min(expected_of(kind, end.name, look.expected).seconds for end in kind.endpoints)
    is_slow = look.answer_seconds > max(SLOW_SECONDS, is_busy * shortest / 2)
    if look.is_away or (is_slow and has_slot):
        return "redis"
    if not has_slot:
        shut = (next(filter(None, map(shut_by, place)), "slots") for place in places)
        return Counter("resting" if why is Circuit.PROBING else str(why) for why in shut).most_common(1)[0][0]
    return "lanes" if is_busy else "" if look.lanes else "workers"


def add_look(waited: Waited, now: float, reasons: Mapping[str, str]) -> Waited:
    """Return what events waited for with the seconds since the last look, which go to the `reasons` by type."""
    by_type = {name: dict(seconds) for name, seconds in waited.by_type.items()}
    for name, reason in reasons.items():
        seconds = by_type.setdefault(name, {})
        seconds[reason] = round(seconds.get(reason, 0.0) + max(0.0, now - waited.until), 3)
    return Waited(max(now, waited.until), by_type, reasons)


def shut_at_last(
    waits: Waited, counts: Mapping[str, Counts], windows: Mapping[str, WindowState], kinds: Sequence[EventType]
) -> Waited:
    """Return what events waited for if their run ends before its deadline: what then keeps them is the last reason."""
    look = Look(counts, windows, lanes=0, left_seconds=0.0)
    reasons = {kind.name: reason_of(look, kind) for kind in kinds}
    return replace(
        waits, last={**waits.last, **{name: why for name, why in reasons.items() if why not in {"", "workers"}}}
    )


def left_over(run: Run, leftover: Mapping[str, int]) -> tuple[Reasons, tuple[Cause, ...]]:
    """Return by reason how many events a run has left over, `leftover` by type; and the causes, the largest first.

    What a type waited for at the last look it waited for until the deadline: nothing more could be done, or nobody
    looked; in a failed run it was Redis. If nothing was waited for, it is Redis in a failed run, the workers in a
    cancelled one, else the lanes. The cause in a failed or cancelled run is that alone.
    """
    usual = "redis" if run.failure else "workers" if run.cancelled else "lanes"
    waits, spent = run.waits or Waited(run.deadline), run.spent or {}
    if not run.cancelled:
        waits = add_look(waits, run.deadline, dict.fromkeys(leftover, usual) if run.failure else waits.last)
    shares: dict[str, Counter[str]] = defaultdict(Counter)
    for name, number in leftover.items():
        tried = min(number, spent.get(name, 0))
        seconds = waits.by_type.get(name, {})
        shares["retries"][name] += tried
        shares[max(seconds, key=seconds.__getitem__, default=usual)][name] += number - tried
    reasons = Reasons(**{reason: numbers.total() for reason, numbers in shares.items()})
    words: Mapping[str, str] = SENTENCES
    if run.failure or run.cancelled:
        word = "failed" if run.failure else "cancelled"
        shares, words = {word: Counter(leftover)}, {word: run.failure or "the run was cancelled"}
    causes = []
    for word, numbers in shares.items():
        if number := numbers.total():
            types = tuple(name for name in numbers if numbers[name])
            sentence = f"{counted(number, 'event')} of {named(types, 3)} left over: {words[word]}"
            causes.append(Cause(cause=word, types=types, leftover=number, sentence=sentence))
    return reasons, tuple(sorted(causes, key=lambda why: -why.leftover))
