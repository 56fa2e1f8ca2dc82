"""Why events are left over: what they wait for at each look of the conductor, and a sentence at the end. Pure.

The conductor looks once a second. Each look finds, by type, the one reason why a waiting event is not under way, and
adds the seconds since the look before to it. At the end of the run the reason with the most seconds has the leftovers
of its type, except for events that had all their attempts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from rlm.core.call import Expected, Pair, call_seconds, needed_seconds
from rlm.core.documents import Cause, Reasons
from rlm.core.endpoint import Circuit, Endpoint, EventType, WindowState, circuit_of
from rlm.core.item import Counts
from rlm.core.run import Run, Waited
from rlm.core.text import counted, named

#: The reasons, which are the fields of `Reasons`, in the words of the sentence about the leftovers of some types.
SENTENCES: Final = {
    "slots": "the limits let no more through",
    "lanes": "all lanes were busy",
    "resting": "the endpoints were resting or probed",
    "paused": "the endpoints were paused",
    "held": "the endpoints were held, because their windows could not be trusted",
    "retries": "the calls failed as often as they are tried in a run",
    "workers": "no worker was ready, or nobody conducted",
    "redis": "Redis was away, slow or not fit",
}
#: How a run may have ended, in place of a reason.
CANCELLED, FAILED = "cancelled", "failed"
#: If these leave events over, nothing went wrong: a limit, or an order.
IN_ORDER: Final = frozenset({"slots", "paused", CANCELLED})
#: A look that comes so many seconds late was kept back by Redis, and so was what lanes wait for.
GAP_SECONDS: Final = 2.0
#: If Redis takes longer for an answer, seconds, idle lanes wait for it; busy ones, if it takes this share of a call.
SLOW_SECONDS: Final = 0.05
SLOW_SHARE: Final = 0.5
#: How many types are named in a sentence.
MOST_NAMED: Final = 3

_SHUT: Final = {
    Circuit.HELD: "held",
    Circuit.PAUSED: "paused",
    Circuit.RESTING: "resting",
    Circuit.PROBING: "resting",
}


class Look(msgspec.Struct, frozen=True):
    """What the conductor of a run sees at one look.

    `counts` are by type, `windows` by the name of endpoint or budget, `lanes` are those of all ready workers, of which
    `overdue` have calls that seem to hang. `away`: Redis was away or not fit since the last look, or this one came
    late; it took `answer_seconds` to answer.
    """

    counts: Mapping[str, Counts]
    windows: Mapping[str, WindowState]
    lanes: int
    remaining_seconds: float
    expected: Mapping[Pair, Expected] = {}
    away: bool = False
    answer_seconds: float = 0.0
    overdue: int = 0

    @property
    def busy(self) -> int:
        """The lanes that have a call."""
        return sum(count.inflight for count in self.counts.values())

    def wait_seconds(self, endpoint: Endpoint) -> float:
        """Return the seconds until the next slot of an endpoint and its budget; 0 if there is one now."""
        windows = [self.windows[limited.name] for limited in (endpoint, endpoint.budget) if limited is not None]
        return max(0.0 if window.free > 0 else window.wait_seconds for window in windows)

    def can_send(self, types: Sequence[EventType]) -> bool:
        """Return whether an event may still be sent: a slot comes in time, or a call under way may fail in time."""
        return any(
            needed_seconds(kind, end.name, self.expected) + (0.0 if count.inflight else self.wait_seconds(end))
            <= self.remaining_seconds
            for kind in types
            if (count := self.counts[kind.name]).inflight + count.open
            for end in kind.endpoints
        )


def reason_of(look: Look, kind: EventType) -> str:
    """Return why a waiting event of a type is not under way; empty if none waits, or one is about to go.

    Where no endpoint has a slot, the lanes are the reason nevertheless if calls that hang hold them all.
    """
    if not look.counts[kind.name].pending:
        return ""
    has_slot, is_busy = any(look.wait_seconds(end) <= 0 for end in kind.endpoints), 0 < look.lanes <= look.busy
    shortest = min(call_seconds(kind, end.name, look.expected) for end in kind.endpoints)
    is_slow = look.answer_seconds > SLOW_SECONDS and (not is_busy or look.answer_seconds > SLOW_SHARE * shortest)
    if look.away or (is_slow and (has_slot or not look.lanes)):
        return "redis"
    if is_busy and (has_slot or 2 * look.overdue > look.busy):
        return "lanes"
    if not has_slot:
        return Counter(_shut_at(end, look.windows) or "slots" for end in kind.endpoints).most_common(1)[0][0]
    return "" if look.lanes else "workers"


def _shut_at(endpoint: Endpoint, windows: Mapping[str, WindowState]) -> str:
    """Return why an endpoint or its budget is shut regardless of free slots; empty if it is not."""
    limited = [each for each in (endpoint, endpoint.budget) if each is not None]
    return next((_SHUT[state] for each in limited if (state := circuit_of(windows[each.name])) in _SHUT), "")


def add_look(waited: Waited, now: float, look: Look, types: Sequence[EventType]) -> Waited:
    """Return what events waited for with the seconds since the last look. Lanes go on without a conductor."""
    last = {kind.name: reason for kind in types if (reason := reason_of(look, kind))}
    by_type = {name: dict(seconds) for name, seconds in waited.by_type.items()}
    for name, reason in last.items():
        seconds = by_type.setdefault(name, {})
        seconds[reason] = round(seconds.get(reason, 0.0) + max(0.0, now - waited.until), 3)
    return Waited(max(now, waited.until), by_type, last)


def causes(run: Run, leftover: Mapping[str, int]) -> tuple[Cause, ...]:
    """Return why events were left over by a run, `leftover` by type, the cause with the most events first."""
    left = {name: number for name, number in leftover.items() if number}
    cancelled = "the run was cancelled" if run.cancelled else ""
    for word, why in ((FAILED, run.failure), (CANCELLED, cancelled)):
        if why and left:
            return (_cause(word, left, why),)
    by_reason = _by_reason(run, left).items()
    return tuple(
        sorted((_cause(each, numbers, SENTENCES[each]) for each, numbers in by_reason), key=lambda why: -why.leftover)
    )


def reasons(run: Run, leftover: Mapping[str, int]) -> Reasons:
    """Return by reason how many events were left over, whatever ended the run."""
    return Reasons(**{reason: sum(numbers.values()) for reason, numbers in _by_reason(run, leftover).items()})


def _by_reason(run: Run, leftover: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Return by reason and type how many events were left over.

    What a type waited for at the last look it waited for until the deadline: nothing more could be done, or nobody
    looked. If nothing was waited for, it is Redis in a failed run, the workers in a cancelled one, else the lanes.
    """
    usual = "redis" if run.failure else "workers" if run.cancelled else "lanes"
    waits, spent = run.waits or Waited(run.deadline), run.spent or {}
    rest_seconds = 0.0 if run.cancelled else max(0.0, run.deadline - waits.until)
    by_reason: dict[str, dict[str, int]] = {}
    for name, number in leftover.items():
        tried = min(number, spent.get(name, 0))
        seconds = Counter(waits.by_type.get(name, {}))
        if name in waits.last:
            seconds[waits.last[name]] += rest_seconds  # type: ignore[assignment]  # a sum of floats
        longest = max(seconds, key=seconds.__getitem__, default=usual)
        for reason, part in (("retries", tried), (longest, number - tried)):
            if part:
                numbers = by_reason.setdefault(reason, {})
                numbers[name] = numbers.get(name, 0) + part
    return by_reason


def _cause(word: str, leftover: Mapping[str, int], why: str) -> Cause:
    number = sum(leftover.values())
    sentence = f"{counted(number, 'event')} of {named(list(leftover), MOST_NAMED)} left over: {why}"
    return Cause(cause=word, types=tuple(leftover), leftover=number, sentence=sentence)


def verdict(why: Sequence[Cause]) -> str:
    """Return the causes of a record as one sentence without a full stop; empty if there are none."""
    return "; ".join(cause.sentence for cause in why)


def went_wrong(why: Sequence[Cause]) -> bool:
    """Return whether a cause of a record is neither a limit nor an operator's order."""
    return any(each.cause not in IN_ORDER for each in why)
