"""Forecasts in words: the verdict on one, and several side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.admin.verdict import Level, Verdict
from rlm.core.text import counted, span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.admin.whatif import Forecast

#: A first call this long after the run's start is worth a line, seconds.
WORTH_A_LINE_SECONDS = 0.1


def verdict_on(found: Forecast) -> Verdict:
    """Return the verdict on a forecast: is all done in time, and what is left over if not."""
    plan = found.plan
    if not found.events:
        return Verdict(Level.REST, "Nothing to do")
    if not plan.fits:
        left = f"{plan.expected_leftover:,} of {counted(found.events, 'event')} will be left over"
        return Verdict(Level.WARN if plan.releases else Level.BAD, left, plan.binds)
    early = found.case.settings.run.window_seconds - found.end_seconds
    done = "The event is" if found.events == 1 else f"All {found.events:,} events are"
    return Verdict(Level.WELL, f"{done} done {span(max(0.0, early))} before the deadline", plan.binds)


def side_by_side(*found: Forecast) -> Iterator[list[str]]:
    """Yield the rows of a table with a column per forecast. Forecasts count from their first call."""
    plans = [one.plan for one in found]
    is_late = any(one.first_call_seconds >= WORTH_A_LINE_SECONDS or not one.releases for one in plans)
    yield ["workers", *(f"{one.workers:,}" for one in plans)]
    if is_late:
        yield ["first call in", *(f"{one.first_call_seconds:.1f} s" if one.releases else "-" for one in plans)]
    yield ["forecast", *(length(one.forecast_seconds) for one in plans)]
    yield ["lower bound", *(length(one.lower_bound_seconds) for one in plans)]
    if is_late:
        yield ["last answer in", *(length(one.done_seconds) for one in found)]
    yield ["lanes' time used", *(f"{one.utilisation.lanes:.0%}" for one in plans)]
    yield ["endpoints' slots used", *(f"{one.utilisation.endpoints:.0%}" for one in plans)]
    yield ["left over", *(f"{one.expected_leftover:,}" for one in plans)]
    for name, part in plans[0].by_type.items():
        if part.events:
            done = (one.by_type[name].events - one.by_type[name].expected_leftover for one in plans)
            yield [f"{name} done", *(f"{number:,}" for number in done)]


def length(seconds: float) -> str:
    """Return a duration of a plan, a dash for none."""
    return f"{seconds:.1f} s" if seconds else "-"
