"""The verdict on a run: how it does, how its plan worked out, what went wrong; forecasts side by side. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from rlm.admin import words
from rlm.core import tally
from rlm.core.documents import Now, Record, RunDocument, RunStatus
from rlm.core.run import State
from rlm.core.text import capital, counted, done_after, safe_line, sentence, span

if TYPE_CHECKING:
    from rlm.admin.whatif import Forecast

#: A first call this many seconds after the run's start is worth a line.
WORTH_A_LINE_SECONDS: Final = 0.1


class Level(StrEnum):
    """How good or bad a verdict is."""

    WELL = "well"
    REST = "rest"  # nothing happens, and nothing needs to
    WARN = "warn"  # it continues, but not as wanted
    BAD = "bad"  # it does not continue, or a run has failed


class Verdict(NamedTuple):
    """A sentence without its full stop, its level, details in further sentences, and the endpoint that it is about."""

    level: Level
    words: str
    more: str = ""
    endpoint: str = ""


def verdict(found: Now) -> Verdict:
    """Return the verdict on the result of `report.overview`: its worst condition, else its forecast or its last run."""
    worst = next((each for each in found.conditions if each.severity != "info"), None)
    expected = words.forecast(found) if isinstance(found, RunStatus) else None
    if worst:
        level, then = Level.BAD if worst.severity == "error" else Level.WARN, expected.words if expected else ""
        endpoint = worst.subject if worst.subject in found.by_endpoint else ""
        return Verdict(level, capital(worst.sentence), _joined(worst.remedy, then), endpoint)
    if isinstance(found, RunStatus) and expected:
        if not expected.fits:
            return Verdict(
                Level.WARN, capital(expected.leftover or expected.words), _joined(expected.when, expected.binds)
            )
        if found.state != State.RUNNING:
            return Verdict(Level.WELL, capital(expected.words))
        spare = words.spare_seconds(found)
        on_track = expected.when if spare is None else f"finishes {span(spare)} before the deadline"
        return Verdict(Level.WELL, f"On track, {on_track}", _joined(words.progress(found)))
    last = None if isinstance(found, RunStatus) else found.last_record
    if last is None:
        return Verdict(Level.REST, "At rest; no run has finished yet", "`rlm start` starts one.")
    left = f"left {counted(last.counts.leftover, 'event')} over" if last.counts.leftover else "left nothing over"
    level = Level.WARN if last.counts.leftover else Level.REST
    return Verdict(level, f"At rest; the last run {left}", _joined(words.summary(last)))


def _joined(*clauses: str) -> str:
    """Return clauses as sentences on one line."""
    return " ".join(sentence(safe_line(clause)) for clause in clauses if clause)


def verdict_on(found: Forecast) -> Verdict:
    """Return the verdict on a forecast: whether everything is done in time, and what is left over if not."""
    plan, alone = found.plan, safe_line(found.case.lacking)
    if not found.events:
        return Verdict(Level.REST, "Nothing to do")
    if not plan.fits:
        of = f"{plan.expected_leftover:,} of {counted(found.events, 'event')}"
        left = f"{of} {'would' if alone else 'will'} be left over"
        may_wait = plan.releases and not alone
        return Verdict(Level.WARN if may_wait else Level.BAD, left, alone or plan.binds)
    early = found.case.settings.run.window_seconds - found.end_seconds
    done = "The event is" if found.events == 1 else f"All {found.events:,} events are"
    done += f" done {span(max(0.0, early))} before the deadline"
    if alone:
        return Verdict(Level.BAD, f"{done}, once there is somebody to do it", alone)
    return Verdict(Level.WELL, done, plan.binds)


def side_by_side(*found: Forecast) -> Iterator[list[str]]:
    """Yield the rows of a table with one column per forecast. Forecasts count from their first call."""
    plans = [one.plan for one in found]
    is_late = any(one.first_call_seconds >= WORTH_A_LINE_SECONDS or not one.releases for one in plans)
    yield ["workers", *(f"{one.workers:,}" for one in plans)]
    if is_late:
        yield ["first call in", *(f"{one.first_call_seconds:.1f} s" if one.releases else "-" for one in plans)]
    yield ["forecast", *(length(one.forecast_seconds) for one in plans)]
    yield ["lower bound", *(length(one.lower_bound_seconds) for one in plans)]
    if is_late:
        yield ["last answer in", *(length(one.done_seconds) for one in found)]
    yield ["left over", *(f"{one.expected_leftover:,}" for one in plans)]
    for name, part in plans[0].by_type.items():
        if part.events:
            done = (one.by_type[name].events - one.by_type[name].expected_leftover for one in plans)
            yield [f"{name} done", *(f"{number:,}" for number in done)]


def length(seconds: float) -> str:
    """Return a duration of a plan; a dash for none."""
    return f"{seconds:.1f} s" if seconds else "-"


def against_plan(found: RunStatus | Record) -> dict[str, str]:
    """Return what was `planned` for a run and, once it has ended, what happened `in fact`; nothing before the plan."""
    plan, team = found.plan, found.workers
    if plan is None or not words.is_planned(found):
        return {}
    parts = counted(plan.workers, "worker"), done_after(plan.forecast_seconds), _left(plan.expected_leftover)
    told = {"planned": ", ".join(parts)}
    if isinstance(found, Record):
        actual = (
            f"done {span(plan.actual_seconds)} after it" if plan.actual_seconds is not None else "no call completed"
        )
        left = _left(found.counts.leftover)
        told["in fact"] = f"{counted(team.peak, 'worker')}, {actual}, {left}; {team.restarted} replaced"
    return told


def _left(number: int) -> str:
    return f"{number:,} left over" if number else "nothing left over"


def used(record: Record) -> str:
    """Return the utilisation of a run and the age of its answers; '' if they are not known."""
    one = record.used
    if not one.calls_per_minute:
        return ""
    ages = f"{span(one.answered_p50_seconds)}, 19 of 20 in {span(one.answered_p95_seconds)}"
    return (
        f"{one.calls_per_minute:,.0f} calls a minute; {one.lanes:.0%} of the lanes' time and {one.slots:.0%} "
        f"of the slots used; half were answered in {ages} from intake"
    )


def troubles(record: Record) -> list[str]:
    """Return why a finished run left events over, how long Redis was away, its failed calls and dead letters."""
    told = [safe_line(one.sentence) for one in record.why]
    told += [away] if (away := tally.away_in_words(record.redis_away_seconds)) else []
    told += call_troubles(record)
    failed, invalid = record.counts.failed, record.counts.invalid
    if dead := failed + invalid:
        became = "1 became a dead letter" if dead == 1 else f"{dead:,} became dead letters"
        some = f"{invalid:,} of them " if failed else ""
        at_intake = f", {some}at intake, which counts as invalid and not as failed" if invalid else ""
        told.append(f"{became}{at_intake}: `rlm failed list` says why")
    return told


def troubles_by_part(found: RunStatus | Record) -> list[tuple[str, list[str]]]:
    """Return the troubles of an open or finished run: each as a short text and a list of its parts."""
    why = found.why if isinstance(found, Record) else ()
    told: list[tuple[str, list[str]]] = [(safe_line(one.sentence), []) for one in why]
    told += [(away, [])] if (away := tally.away_in_words(found.redis_away_seconds)) else []
    if number := _failed(found):
        told.append((number, [safe_line(one) for one in tally.each_in_words(found.troubles)]))
    return told


def call_troubles(found: RunDocument) -> list[str]:
    """Return how many calls failed or were throttled, and why."""
    why = tally.in_words(found.troubles)
    return [f"{number}{f': {safe_line(why)}' if why else ''}"] if (number := _failed(found)) else []


def _failed(found: RunDocument) -> str:
    """Return how many calls of a run failed or were throttled; '' if none."""
    calls, errors, throttled = words.calls_in_all(found)
    became = " or ".join(word for word, number in (("failed", errors), ("were throttled", throttled)) if number)
    return f"{errors + throttled:,} of {counted(calls, 'call')} {became}" if became else ""
