"""How `rlm plan --windows` answers: a row a window, where each type has come to, and what comes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.cli.forecast import sentence
from rlm.cli.printing import show, show_words, table
from rlm.core.text import counted

if TYPE_CHECKING:
    from rlm.admin.planning import Arrivals
    from rlm.admin.whatif import Case
    from rlm.cli.forecast import Forecast
    from rlm.plan.outlook import Ahead, Outlook

#: Windows shown at the most; of more, the first and the last.
MOST_WINDOWS = 12
FIRST_WINDOWS, LAST_WINDOWS = 7, 4
#: From so many on, arrivals are shown as whole events.
SHOWN_WHOLE = 100


def show_windows(found: Forecast, arrivals: Arrivals, today: Forecast | None) -> None:
    """Print how the leftovers develop, and what comes of it; with `today` what came of it today."""
    outlook = found.outlook
    if outlook is None or not outlook.windows:
        return
    show()
    every_seconds = found.case.settings.run.every_seconds
    show_words(f"The next windows, {_arriving(arrivals, sum(outlook.arrivals.values()), every_seconds)}:")
    show()
    table(["window", "waiting", "done", "left over"], _rows(outlook), lambda _: True)
    _not_counted_on(found.case)
    if not outlook.drained_in:
        _show_last(outlook)
    show()
    if today is not None and today.outlook:
        show_words(f"Today: {today.outlook.verdict}.")
        show_words(f"What if: {outlook.verdict}.")
    else:
        show_words(f"{sentence(outlook.verdict)}.")


def _not_counted_on(case: Case) -> None:
    if case.suspect:
        show()
        show_words(f"Not counted on in any of them, until a call there is answered well: {', '.join(case.suspect)}.")


def _show_last(outlook: Outlook) -> None:
    """Print where each type has come to."""
    last = outlook.windows[-1]
    rows = [
        [
            name,
            _rate(outlook.arrivals.get(name, 0.0)),
            f"{last.events[name] - left:,}",
            f"{left:,}",
            _growth(outlook.growth_of(name)),
        ]
        for name, left in last.left.items()
        if last.events[name] or outlook.arrivals.get(name)
    ]
    if rows:
        show()
        show_words(f"In window {len(outlook.windows):,}, by type:")
        show()
        table(["type", "arriving", "done", "left over", "growing by"], rows)


def _rows(outlook: Outlook) -> list[list[str]]:
    """Return the rows of the windows until the first after all is done; of many, some in the middle are left out."""
    windows = list(enumerate(outlook.windows, start=1))
    waiting = max((number for number, one in windows if one.leftover), default=0)
    windows = windows[: waiting + 2]
    if len(windows) <= MOST_WINDOWS:
        return [_row(number, one) for number, one in windows]
    first, last = windows[:FIRST_WINDOWS], windows[-LAST_WINDOWS:]
    return [*(_row(*one) for one in first), ["..."] * 4, *(_row(*one) for one in last)]


def _row(number: int, one: Ahead) -> list[str]:
    waiting = sum(one.events.values())
    return [f"{number:,}", f"{waiting:,}", f"{waiting - one.leftover:,}", f"{one.leftover:,}"]


def _growth(growth: float) -> str:
    return f"{round(growth):+,}" if round(growth) else "-"


def _arriving(arrivals: Arrivals, number: float, every_seconds: float) -> str:
    """Say how many arrive in each window, and how that is known: given for a type or measured."""
    if not number:
        known = arrivals.windows or arrivals.given
        return "with nothing arriving" + ("" if known else " (no whole window is on record yet; see --arrivals)")
    measured = f"as in the last {counted(round(arrivals.windows), 'window')}"
    others = any(number for name, number in arrivals.by_type.items() if name not in arrivals.given)
    sources = measured
    if arrivals.given:
        sources = f"{', '.join(sorted(arrivals.given))} as given, the others {measured}" if others else "as given"
    events = f"{_rate(number)} {'event' if number == 1 else 'events'}"
    scaled = "" if every_seconds == arrivals.seconds else f", for {every_seconds:g} s instead of {arrivals.seconds:g} s"
    return f"with {events} arriving in each ({sources}{scaled})"


def _rate(number: float) -> str:
    """Write how many arrive, which may be a fraction; of a large number none is worth showing."""
    whole = number >= SHOWN_WHOLE or number == int(number)
    return f"{number:,.0f}" if whole else f"{number:.3g}"
