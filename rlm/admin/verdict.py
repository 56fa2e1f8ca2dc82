"""The verdict on a run: how it does, how its plan worked out, what went wrong; forecasts side by side. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from rlm.admin import words
from rlm.admin.attendance import NO_SCHEDULER, lacking
from rlm.admin.hosts import hosts_unwell
from rlm.admin.unwell import Health, endpoints_unwell, remedy, shut, since_words, unwell
from rlm.core import tally
from rlm.core.documents import Now, Record, Rest, RunDocument, RunForecast, RunStatus
from rlm.core.run import State
from rlm.core.text import capital, counted, done_after, named, of_another_configuration, safe_line, sentence, span
from rlm.core.window import RECOVERING

if TYPE_CHECKING:
    from rlm.admin.whatif import Forecast

#: An endpoint is named if at least this part of its calls failed, and at least so many.
FAILING_PART: Final = 0.1
FAILING_CALLS: Final = 5
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
    """Return the verdict on the result of `report.overview`; if several apply, the worst."""
    return next(_open(found) if isinstance(found, RunStatus) else _at_rest(found))


def _open(found: RunStatus) -> Iterator[Verdict]:
    """Yield the verdicts on an open run, the worst first; the last one always applies."""
    expected, latest, closed = words.forecast(found), found.forecast, shut(found)
    if unfit := words.unfit(found):
        yield Verdict(Level.BAD, "Nothing is sent", _joined(unfit))
    elif words.halted(found):
        since = since_words(latest.as_of if latest and found.state == State.RUNNING else None, found)
        late = f"it is {words.left_of(found)}" if words.overdue_seconds(found) else ""
        remedies = "`rlm up` or `rlm scheduler` continues it"
        more = _joined(late, expected.words, remedies, found.workers.lacking)
        yield Verdict(Level.BAD, f"Nothing conducts this run{since}", more)
    if found.state == State.RUNNING and found.workers.wanted and not words.workers_ready(found):
        since = since_words(latest.short_since if latest else None, found)
        yield Verdict(Level.BAD, f"No worker is ready{since}", _no_worker(found, expected))
    name, failing = _failing(found)
    wrong = [one for one in (failing, *unwell(found)) if one]
    if latest and expected.leftover and (blamed := [name for name in latest.blamed if name in closed]):
        left = f"{expected.leftover}{_of_them(latest, [closed[name] for name in blamed])}"
        yield _shut(found, blamed, left, safe_line(expected.binds))
    if expected.leftover:
        why = safe_line(expected.binds) or (wrong or [""])[0]
        yield Verdict(Level.WARN, capital(expected.leftover), _joined(expected.when, why))
    if wrong:
        yield Verdict(Level.WARN, wrong[0], _joined(expected.words), name)
    if found.state != State.RUNNING:
        yield Verdict(Level.WELL, capital(expected.words))
    spare = words.spare_seconds(found)
    on_track = expected.when if spare is None else f"finishes {span(spare)} before the deadline"
    yield Verdict(Level.WELL, f"On track, {on_track}", _joined(words.progress(found)))


def _no_worker(found: RunStatus, expected: words.Expectation) -> str:
    """Return why no worker is ready and, once that is a shortage, what is left over."""
    team = found.workers
    if found.forecast and found.forecast.shortage and expected.binds:
        return _joined(safe_line(expected.binds), expected.leftover)
    if other := team.other_configuration:
        return _joined(f"{of_another_configuration(other)}: restart what `rlm doctor` names")
    return _joined(lacking(found) or f"{team.wanted:,} are wanted, {team.now:,} are alive")


def _shut(found: Now, names: Sequence[str], left: str = "", binds: str = "") -> Verdict:
    """Return the verdict that endpoints or budgets are shut: why, since when, what is left over, and what to do."""
    first, *others = endpoints_unwell(found, names)
    besides = f"besides, {'; '.join(others)}" if others else ""
    return Verdict(Level.WARN, first, _joined(left, remedy(found, names), binds, besides), names[0])


def _of_them(expected: RunForecast, shut: Sequence[Health]) -> str:
    """Return how many of the leftovers are of types with one of the endpoints that are shut; '' if all are."""
    names = {name for entry in shut for name in entry.types}
    left = {name: number for name, number in expected.leftover_by_type.items() if number and name in names}
    number = sum(left.values())
    return (
        f", {number:,} of them of {safe_line(named(list(left), 2))}" if 0 < number < expected.expected_leftover else ""
    )


def _joined(*told: str | None) -> str:
    """Return clauses as sentences on one line."""
    return " ".join(sentence(one) for one in told if one)


def _failing(found: RunStatus) -> tuple[str, str]:
    """Return which endpoint fails most often, if it fails often, and a sentence with the error; else twice ''."""
    parts = {name: one.errors / one.calls for name, one in found.by_endpoint.items() if one.calls}
    name = max(parts, key=lambda one: parts[one], default="")
    if not name or parts[name] < FAILING_PART or found.by_endpoint[name].errors < FAILING_CALLS:
        return "", ""
    what = next((one.what for one in found.troubles if one.endpoint == name), "")
    entry = found.by_endpoint[name]
    since = since_words(entry.since if entry.health in RECOVERING else None, found)
    return name, safe_line(f"{name} fails {parts[name]:.0%} of its calls{f': {what}' if what else ''}{since}")


def _at_rest(found: Rest) -> Iterator[Verdict]:
    """Yield the verdicts on the time between two runs, the worst first; the last one always applies."""
    if unfit := words.unfit(found):
        yield Verdict(Level.BAD, "No run starts", _joined(unfit))
    if not found.schedulers:
        yield Verdict(Level.BAD, "Nothing conducts", _joined(NO_SCHEDULER))
    if why := lacking(found):
        yield Verdict(Level.BAD, "Nothing would send", _joined(why))
    last = found.last_record
    if last and last.state == State.FAILED:
        yield Verdict(Level.BAD, "The last run failed", _joined(safe_line(last.failure)))
    if found.conductor is None:
        yield Verdict(Level.WARN, "No scheduler leads", "A standby takes over within 5 s; see `rlm doctor`.")
    if wrong := unwell(found):
        of_host = Verdict(Level.WARN, wrong[0], "; ".join(wrong[1:]))
        yield of_host if hosts_unwell(found.hosts) else _shut(found, list(shut(found)))
    if last and (left := last.counts.leftover):
        told = f"At rest; the last run left {counted(left, 'event')} over"
        yield Verdict(Level.WARN, told, _joined(words.summary(last)))
    if last:
        yield Verdict(Level.REST, "At rest; the last run left nothing over", _joined(words.summary(last)))
    yield Verdict(Level.REST, "At rest; no run has finished yet", "`rlm start` starts one.")


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
