"""Why events were left over: decided once, here, from what happened in the run. All faces show it. Pure.

A cause uses only what was observed: what the events waited for and how long (`rlm.plan.waits`), how many used all their
attempts or were under way at the deadline, and how the run ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from rlm.core.documents import Cause, Reasons
from rlm.core.text import counted, listed, named
from rlm.plan.waits import ANOTHER_CONFIGURATION, NO_CONNECTION, NO_SUPERVISOR, Obstacle, Wait, Waits

#: How many endpoints or types are named.
MOST_NAMED: Final = 3
#: An obstacle is mentioned beside the longest one only if it lasted this fraction of the run's window.
WORTH_A_WORD: Final = 0.05
#: Normal obstacles: if events wait for these, nothing went wrong.
IN_ORDER: Final = frozenset({Obstacle.LIMIT, Obstacle.BUDGET})
#: Causes that are an operator's order, or the rule that runs never overlap.
_AS_ORDERED: Final = frozenset({Obstacle.PAUSED, Obstacle.RUN_BEFORE, "cancelled", "stopped"})
#: Obstacles that raise an alarm of their own while they last.
ALARMED: Final = frozenset({Obstacle.WORKERS, Obstacle.REDIS, Obstacle.HELD})

#: Causes other than obstacles: how the run ended, or how its calls did.
CANCELLED, FAILED, STOPPED, ATTEMPTS, DEADLINE = "cancelled", "failed", "stopped", "attempts", "deadline"
#: Causes that concern endpoints. Whether an alarm was raised depends on the endpoint.
OF_ENDPOINTS: Final = frozenset({Obstacle.RESTING, ATTEMPTS})

#: Why no worker was ready, if known.
_LACKS: Final = {
    ANOTHER_CONFIGURATION: f", because those there had {ANOTHER_CONFIGURATION}",
    NO_SUPERVISOR: ", because no supervisor was heard from",
    NO_CONNECTION: ", because those there could connect to no endpoint",
}

#: The reason in a record for each obstacle.
_REASONS: Final = {
    Obstacle.START: "workers",
    Obstacle.WORKERS: "workers",
    Obstacle.CONDUCTOR: "workers",
    Obstacle.RUN_BEFORE: "workers",
    Obstacle.LANES: "lanes",
    Obstacle.LIMIT: "slots",
    Obstacle.BUDGET: "slots",
    Obstacle.PAUSED: "paused",
    Obstacle.RESTING: "resting",
    Obstacle.HELD: "held",
    Obstacle.REDIS: "redis",
}
#: How many `{seconds}` an obstacle lasted. For endpoints only the `{name}` of those that were shut, because others may
#: have admitted calls in that time.
_WORDS: Final = {
    Obstacle.START: "no call was made in the first {seconds}",
    Obstacle.WORKERS: "no worker was ready for {seconds}",
    Obstacle.LANES: "all lanes were busy for {seconds}",
    Obstacle.PAUSED: "{name} {was} paused",
    Obstacle.RESTING: "{name} {was} resting or probed",
    Obstacle.HELD: "{name} {was} held because the window could not be trusted",
    Obstacle.REDIS: "Redis was away, slow or not fit for {seconds}",
    Obstacle.CONDUCTOR: "nobody conducted for {seconds}",
    Obstacle.RUN_BEFORE: "the run before was still open for {seconds}",
}


class Ended(msgspec.Struct, frozen=True):
    """What is known of a run at its end.

    `leftover`, `spent` and `cut` count events by type: all that are left over, those that used all attempts, and those
    whose calls the deadline cut off. `waits` is what the others waited for. `limits` are the limits in force, by budget
    and, for the first endpoint of each type, by type; `by_hand` says, by budget and type, how limits were set by hand.
    `stopped` says why the run ended early, empty if it did not. `failing` has the failed calls by type.
    """

    leftover: Mapping[str, int]
    spent: Mapping[str, int]
    cut: Mapping[str, int]
    waits: Waits
    window_seconds: float
    limits: Mapping[str, str]
    cancelled: bool = False
    failure: str = ""
    stopped: str = ""
    by_hand: Mapping[str, str] = {}
    failing: Mapping[str, int] = {}


def causes(run: Ended) -> tuple[Cause, ...]:
    """Return why events were left over, as in the record, the cause with the most events first; empty if none were.

    `cause` is an obstacle or one of the other causes above. The sentence has no full stop.
    """
    left = {name: number for name, number in run.leftover.items() if number}
    if not left:
        return ()
    cancelled = "the run was cancelled" if run.cancelled else ""
    for word, why in ((FAILED, run.failure), (STOPPED, run.stopped), (CANCELLED, cancelled)):
        if why:
            return (_cause(word, left, why),)
    parts = _parts(run)
    told = [*_spent(parts.spent), *_starved(run, parts.starved), *_waited(run, parts.waited, parts.cut)]
    return tuple(sorted(told, key=lambda cause: -cause.leftover))


def reasons(run: Ended) -> Reasons:
    """Return by reason how many events were left over, whatever ended the run.

    Without an obstacle, events of a failed run count for `redis`, of one that was ended early for `workers`, and those
    whose calls the deadline cut for `lanes`.
    """
    parts = _parts(run)
    early = "workers" if run.stopped or run.cancelled else "lanes"
    unobstructed = "redis" if run.failure else early
    numbers = Counter(retries=sum(parts.spent.values()) + sum(parts.starved.values()))
    numbers[unobstructed] += sum(parts.cut.values())
    for name, number in parts.waited.items():
        longest = _longest(run.waits.by_type.get(name, {}))
        numbers[_REASONS[longest.obstacle] if longest else unobstructed] += number
    return Reasons(**numbers)


class _Parts(NamedTuple):
    """The leftovers by type: those that used all attempts, whose slots failed calls used, that were cut; the others."""

    spent: dict[str, int]
    starved: dict[str, int]
    cut: dict[str, int]
    waited: dict[str, int]


def _parts(run: Ended) -> _Parts:
    spent = {name: min(number, run.spent.get(name, 0)) for name, number in run.leftover.items()}
    cut = {name: min(number - spent[name], run.cut.get(name, 0)) for name, number in run.leftover.items()}
    waited = {name: number - spent[name] - cut[name] for name, number in run.leftover.items()}
    starved = {name: waited.pop(name) for name in run.leftover if _is_starved(run, name, waited[name])}
    return _Parts(spent, starved, cut, waited)


def verdict(why: Sequence[Cause]) -> str:
    """Return the causes of a record as one sentence without a full stop; empty if there are none."""
    return "; ".join(cause.sentence for cause in why)


def alarmed(why: Sequence[Cause], types: Collection[str] = ()) -> bool:
    """Return whether every cause of a record has raised its own alarm by the end of the run.

    `types` are those with an endpoint that has raised one; it covers the events that the endpoint holds back.
    """
    return bool(why) and all(
        each.cause in ALARMED or (each.cause in OF_ENDPOINTS and set(types) & set(each.types)) for each in why
    )


def went_wrong(why: Sequence[Cause]) -> bool:
    """Return whether a cause of a record is not a limit, an operator's order or the previous run."""
    return any(each.cause not in {*IN_ORDER, *_AS_ORDERED} for each in why)


def _spent(spent: Mapping[str, int]) -> Iterator[Cause]:
    numbers = {name: number for name, number in spent.items() if number}
    if numbers:
        yield _cause(ATTEMPTS, numbers, f"calls for {_names(list(numbers))} failed as often as they are tried in a run")


def _is_starved(run: Ended, name: str, waited: int) -> bool:
    """Return whether the events of a type that `waited` for a slot would have had one without its failed calls."""
    wait = _longest(run.waits.by_type.get(name, {}))
    return wait is not None and wait.obstacle in IN_ORDER and 0 < waited <= run.failing.get(name, 0)


def _starved(run: Ended, starved: Mapping[str, int]) -> Iterator[Cause]:
    if starved:
        failed = sum(run.failing[name] for name in starved)
        calls = f"{counted(failed, 'call')} for {_names(list(starved))} failed"
        yield _cause(ATTEMPTS, starved, f"{calls} and used the slots that they waited for")


def _waited(run: Ended, waited: Mapping[str, int], cut: Mapping[str, int]) -> Iterator[Cause]:
    """Yield a cause for each group of types with the same longest wait, and one for types without a wait."""
    alike: dict[Wait | None, dict[str, int]] = {}
    for name, number in waited.items():
        if number:
            alike.setdefault(_longest(run.waits.by_type.get(name, {})), {})[name] = number
    for name, number in cut.items():
        if number:
            unanswered = alike.setdefault(None, {})
            unanswered[name] = unanswered.get(name, 0) + number
    for wait, numbers in alike.items():
        why = f"{_told(run, wait, list(numbers))}{_besides(run, wait, list(numbers))}"
        yield _cause(wait.obstacle if wait else DEADLINE, numbers, why)


def _cause(word: str, leftover: Mapping[str, int], why: str) -> Cause:
    number = sum(leftover.values())
    sentence = f"{counted(number, 'event')} left over: {why}"
    return Cause(cause=word, types=tuple(leftover), leftover=number, sentence=sentence)


def _longest(waits: Mapping[Wait, float]) -> Wait | None:
    """Return what was waited for longest; endpoints that were shut for the same reason count together."""
    if not waits or not any(waits.values()):
        return None
    together: dict[Obstacle, float] = {}
    for wait, seconds in waits.items():
        together[wait.obstacle] = together.get(wait.obstacle, 0.0) + seconds
    most = max(together, key=together.__getitem__)
    return max((one for one in waits if one.obstacle is most), key=waits.__getitem__)


def _told(run: Ended, wait: Wait | None, types: Sequence[str]) -> str:
    """Return in words what the events of `types` waited for."""
    if wait is None:
        return f"the deadline came while calls for {_names(types)} were under way"
    if wait.obstacle not in IN_ORDER:
        return _obstacle(run, wait.obstacle, types)
    if wait.obstacle is Obstacle.LIMIT and len(types) > 1:
        by_hand = "; ".join(run.by_hand[name] for name in types if run.by_hand.get(name))
        return f"the limits of {_names(types)} let no more through{f' ({by_hand})' if by_hand else ''}"
    what, name = ("limit of", types[0]) if wait.obstacle is Obstacle.LIMIT else ("budget", wait.name)
    limit = "; ".join(told for one in (run.limits, run.by_hand) if (told := one.get(name)))
    return f"the {what} {name}{f' ({limit})' if limit else ''} lets no more through"


def _besides(run: Ended, main: Wait | None, types: Sequence[str]) -> str:
    """Return in words what else kept events waiting long enough, except normal obstacles.

    Beside busy lanes, limits are mentioned too; otherwise one would add workers, which would change little.
    """
    others = {
        wait.obstacle: wait
        for name in types
        for wait, seconds in run.waits.by_type.get(name, {}).items()
        if seconds >= WORTH_A_WORD * run.window_seconds
    }
    if main is not None:
        others.pop(main.obstacle, None)
    told = [_obstacle(run, one, types) for one in Obstacle if one in others and one not in IN_ORDER]
    if main is not None and main.obstacle is Obstacle.LANES:
        told += [_told(run, others[one], types) for one in Obstacle if one in others and one in IN_ORDER]
    return f"; besides, {', and '.join(told)}" if told else ""


def _obstacle(run: Ended, obstacle: Obstacle, types: Sequence[str]) -> str:
    """Return in words how long an obstacle delayed the type that waited longest for it, or which endpoints it shut."""
    longest: dict[str, float] = {}
    for name in types:
        for wait, seconds in run.waits.by_type.get(name, {}).items():
            if wait.obstacle is obstacle:
                longest[wait.name] = max(longest.get(wait.name, 0.0), seconds)
    names = sorted(longest, key=longest.__getitem__, reverse=True)
    told = _WORDS[obstacle].format(
        name=_names(names), was="was" if len(names) == 1 else "were", seconds=_seconds(sum(longest.values()))
    )
    return f"{told}{_LACKS.get(names[0], '')}"


def _names(names: Sequence[str]) -> str:
    return listed(names) if len(names) <= MOST_NAMED else named(names, MOST_NAMED)


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004  # tenths only if they matter
