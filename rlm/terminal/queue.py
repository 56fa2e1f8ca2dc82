"""The picture of the queues: Redis, what waits, how fast it moves, the age of the oldest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from rlm.admin import words
from rlm.core.documents import QueueLook, ServerState, TypeQueue
from rlm.core.text import counted, span
from rlm.terminal.drawing import QUIET, Bar, columns, facts, name_text, number, picture, state_text

_MEGABYTE: Final = 1_000_000


def queue_picture(look: QueueLook) -> RenderableType:
    """Return the picture of the queues from the document of `rlm queue monitor`."""
    title = Text.assemble(("queues", "bold default"), (f" · {words.clock(look.as_of)} UTC", QUIET))
    return picture(title, [facts(_facts(look)), Text(), _types(look.by_type)])


def _facts(look: QueueLook) -> Iterator[tuple[str, Text]]:
    yield "Redis", Text(_redis(look.redis))
    staged = f", {look.staged:,} in staging" if look.staged else ""
    yield "audit list", Text(f"{counted(look.events, 'item')}{staged}")
    if run := look.run:
        text = Text(f"{look.processing:,} not settled, {span(run.seconds_left)} left; ")
        yield "open run", text.append_text(state_text(run.state))
    else:
        yield "leftovers", Text(counted(look.leftover, "event"))
    letters = Text(f"{look.failed:,}; see `rlm failed list`", style="yellow") if look.failed else Text("none")
    yield "dead letters", letters
    yield "arriving", Text(_rate(look.arriving_per_minute, "item"))
    yield "settled", Text(_rate(look.settled_per_minute, "event"))


def _redis(redis: ServerState) -> str:
    most = f" of {redis.max_bytes / _MEGABYTE:,.0f}" if redis.max_bytes else ""
    return f"answers in {redis.ping_ms:g} ms, uses {redis.used_bytes / _MEGABYTE:,.0f}{most} MB"


def _rate(number: float | None, noun: str) -> str:
    return "not known yet" if number is None else f"{number:,.0f} {noun}s/min"


def _types(by_type: Mapping[str, TypeQueue]) -> Table:
    table = columns("type", "#waiting", "#oldest", bar=True)
    most = max((each.pending for each in by_type.values()), default=0)
    for name, each in by_type.items():
        bar = Bar((each.pending, "█", "cyan"), (most - each.pending, " ", "")) if most else Text()
        table.add_row(name_text(name), bar, number(each.pending), Text(span(each.oldest_seconds)))
    return table


def queue_line(look: QueueLook) -> str:
    """Return the queues in one line, for output without a terminal."""
    return "; ".join(f"{name} {text.plain}" for name, text in _facts(look))
