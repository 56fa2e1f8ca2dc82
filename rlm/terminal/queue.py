"""The picture of the queues: what waits, its trend, the age of the oldest, and the forecast."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from rlm.admin import words
from rlm.admin.monitoring import Direction, Trend
from rlm.core.text import counted, safe_line, span
from rlm.terminal.drawing import QUIET, Picture, bar_of, columns, curve, facts, short_name, state_text

#: The widest curve, the narrowest, and the columns beside it.
WIDEST_CURVE, _NARROWEST_CURVE, _BESIDE_CURVE = 80, 20, 46

#: The arrow and the colour of each direction.
_LOOKS = {
    Direction.GROWING: ("↑ growing", "yellow"),
    Direction.DRAINING: ("↓ draining", "green"),
    Direction.STEADY: ("→ steady", ""),
    Direction.UNKNOWN: ("not known yet", QUIET),
}


def queue_picture(found: Mapping[str, Any], trend: Trend) -> Picture:
    """Return the picture of the queues from the document of `rlm queue monitor` and the curves of its `trend`."""

    def draw(_console: Console, inside: ConsoleOptions) -> list[RenderableType]:
        moves = _moves(found, trend, inside.max_width)
        parts: list[RenderableType] = [
            facts(_facts(found), inside.max_width),
            Text(),
            moves,
            Text(),
            _types(found["by_type"]),
        ]
        if outlook := found["outlook"]:
            style = "yellow" if outlook["drained_in"] is None else "green"
            parts += [Text(), Text(f"forecast: {safe_line(outlook['verdict'])}", style=style)]
        return parts

    title = Text.assemble(("queues", "bold default"), (f" · {words.clock(found['as_of'])} UTC", QUIET))
    return Picture(title, draw)


def _facts(found: Mapping[str, Any]) -> Iterator[tuple[str, Text]]:
    staged = f", {found['staged']:,} in staging" if found["staged"] else ""
    yield "audit list", Text(f"{counted(found['events'], 'item')}{staged}")
    if run := found["run"]:
        told = Text(f"{found['processing']:,} not settled, {span(run['seconds_left'])} left; ")
        yield "open run", told.append_text(state_text(run["state"]))
    else:
        yield "leftovers", Text(counted(found["leftover"], "event"))
    if found["retried"]:
        yield "retried", Text(f"{counted(found['retried'], 'event')} for the next run")
    letters = Text(f"{found['failed']:,}; see `rlm failed list`", style="yellow") if found["failed"] else Text("none")
    yield "dead letters", letters


def _moves(found: Mapping[str, Any], trend: Trend, width: int) -> RenderableType:
    """Draw how fast the queues move: a row for each figure, with its curve if the `width` suffices."""
    rows = list(_figures(found, trend, max(_NARROWEST_CURVE, min(WIDEST_CURVE, width - _BESIDE_CURVE))))
    if width < _BESIDE_CURVE + _NARROWEST_CURVE:
        return facts(((name, figure) for name, figure, _ in rows), width)
    table = Table.grid(padding=(0, 2))
    table.add_column(style=QUIET, no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(no_wrap=True, overflow="crop")
    for row in rows:
        table.add_row(*row)
    return table


def _figures(found: Mapping[str, Any], trend: Trend, room: int) -> Iterator[tuple[str, Text, Text]]:
    """Yield names, figures, and curves of at most `room` columns."""
    told = found["trend"]
    arrow, style = _LOOKS[told["direction"]]
    growth = "" if told["growth_per_minute"] is None else f" {told['growth_per_minute']:+,.0f}/min"
    since = f"over the last {span(told['seconds'])}" if told["seconds"] else ""
    waiting, settled = Text(curve(trend.waiting, room), style or "cyan"), Text(curve(trend.settled_each, room), "green")
    yield "waiting", Text(f"{arrow}{growth}", style=style), waiting
    yield "arriving", Text(_rate(told["arriving_per_minute"], "item")), Text(since, style=QUIET)
    yield "settled", Text(_rate(told["settled_per_minute"], "event")), settled
    if len(found["last_leftovers"]) > 1:
        last = found["last_leftovers"]
        now = Text(counted(last[-1], "event"), style="yellow" if last[-1] else "")
        shown = last[-room:]
        drawn = Text(curve(shown, room), "yellow")
        yield "left over by runs", now, drawn.append(f"  last {len(shown)}", QUIET)


def _rate(number: float | None, noun: str) -> str:
    return "not known yet" if number is None else f"{number:,.0f} {noun}s/min"


def _types(by_type: Mapping[str, Any]) -> Table:
    table = columns("type", 40, bar=True, numbers=("waiting", "oldest"))
    most = max((one["pending"] for one in by_type.values()), default=0)
    for name, one in by_type.items():
        bar: RenderableType = (
            bar_of((one["pending"], "█", "cyan"), (most - one["pending"], " ", "")) if most else Text()
        )
        numbers = (f"{one['pending']:,}" if one["pending"] else "-", span(one["oldest_seconds"]))
        table.add_row(short_name(name, "" if one["pending"] else QUIET), bar, *map(Text, numbers))
    return table


def queue_line(found: Mapping[str, Any]) -> str:
    """Return the queues in one line, for output without a terminal."""
    told = found["trend"]
    ages = [one["oldest_seconds"] for one in found["by_type"].values() if one["oldest_seconds"] is not None]
    direction, outlook = told["direction"], found["outlook"]
    parts = [
        f"{counted(found['events'] + found['staged'], 'item')} waiting",
        f"{found['processing'] + found['leftover'] + found['retried']:,} in the ledger",
        f"{counted(found['failed'], 'dead letter')}",
        f"oldest {span(max(ages, default=None))}",
        f"arriving {_rate(told['arriving_per_minute'], 'item')}",
        f"settled {_rate(told['settled_per_minute'], 'event')}",
        "trend not known yet" if direction == Direction.UNKNOWN else str(direction),
        *([f"forecast: {outlook['verdict']}"] if outlook else []),
    ]
    return "; ".join(parts)
