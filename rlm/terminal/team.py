"""The workers, and what each has in hand."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from rlm.core.text import counted, safe_line, span
from rlm.terminal import words
from rlm.terminal.bars import lanes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

#: From so many columns on, events are named, else endpoints only.
EVENTS_FROM = 100

_QUIET = "dim"


def team(found: Mapping[str, Any], room: int | None) -> list[RenderableType]:
    """Say who works, and show each on a line of its own, as far as `room` lines allow."""
    each = found["workers"]["each"]
    parts: list[RenderableType] = [Text.assemble(("workers ", _QUIET), words.workers(found))]
    shown = each if room is None or len(each) <= room else each[: max(0, room - 1)]
    if shown:
        parts.append(_Rows(shown))
    if shown and (hidden := each[len(shown) :]):  # with none shown the line above has told of all
        busy = sum(one["busy"] for one in hidden)
        parts.append(Text(f"and {counted(len(hidden), 'more worker')}, {busy} lanes busy", style=_QUIET))
    return parts


class _Rows:
    """A line per worker."""

    def __init__(self, each: Sequence[Mapping[str, Any]]) -> None:
        self._each = each

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False, expand=True)
        table.add_column(no_wrap=True, justify="right")
        hosts = {one["host"] for one in self._each}
        if len(hosts) > 1:
            table.add_column(no_wrap=True, overflow="ellipsis", max_width=20)
        table.add_column(no_wrap=True)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        for one in self._each:
            table.add_row(
                Text(str(one["pid"]), style=_QUIET),
                *([Text(safe_line(one["host"]), style=_QUIET)] if len(hosts) > 1 else []),
                lanes(one["busy"], one["threads"], ascii_only=options.ascii_only),
                _doing(one, named=options.max_width >= EVENTS_FROM),
            )
        yield table


def _doing(one: Mapping[str, Any], *, named: bool) -> Text:
    """Say what a worker does: its state, or which endpoints it calls, and on a wide terminal for which events."""
    if one.get("other_configuration"):
        return Text("another configuration", style="yellow")
    if one["state"] != "ready":
        return Text(one["state"], style="yellow")
    if not one["calls"]:
        return Text("idle", style=_QUIET)
    if named:
        return Text(", ".join(_call(call) for call in one["calls"]))
    names = Counter(call["endpoint"] or "waiting for a slot" for call in one["calls"])
    return Text(
        ", ".join(f"{safe_line(name)} x{number}" if number > 1 else safe_line(name) for name, number in names.items())
    )


def _call(call: Mapping[str, Any]) -> str:
    event = safe_line(call["event_id"].rpartition(":")[0] or call["event_id"])
    if call["endpoint"] is None:
        return f"{event} waits for a slot"
    return f"{event} at {safe_line(call['endpoint'])} {span(call['seconds'] or 0)}"
