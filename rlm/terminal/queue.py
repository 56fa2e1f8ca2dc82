"""The picture of the queues: Redis, what waits, how fast it moves, the age of the oldest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from rich.table import Table
from rich.text import Text

from rlm.admin import words
from rlm.core.documents import QueueLook, ServerState, TypeQueue
from rlm.core.text import counted, span
from rlm.terminal.drawing import QUIET, Bar, Picture, columns, facts, name_text, number, state_text

_MEGABYTE: Final = 1_000_000


def queue_picture(look: QueueLook) -> Picture:
    """Return the picture of the queues from the document of `rlm queue monitor`."""
    title = Text.assemble(("queues", "bold default"), (f" · {words.clock(look.as_of)} UTC", QUIET))
    return Picture(title, [facts(_facts(look)), Text(), _types(look.by_type)])


def _facts(found: QueueLook) -> Iterator[tuple[str, Text]]:
    yield "Redis", Text(_redis(found.redis))
    staged = f", {found.staged:,} in staging" if found.staged else ""
    yield "audit list", Text(f"{counted(found.events, 'item')}{staged}")
    if run := found.run:
        told = Text(f"{found.processing:,} not settled, {span(run.seconds_left)} left; ")
        yield "open run", told.append_text(state_text(run.state))
    else:
        yield "leftovers", Text(counted(found.leftover, "event"))
    letters = Text(f"{found.failed:,}; see `rlm failed list`", style="yellow") if found.failed else Text("none")
    yield "dead letters", letters
    yield "arriving", Text(_rate(found.arriving_per_minute, "item"))
    yield "settled", Text(_rate(found.settled_per_minute, "event"))


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


def queue_line(found: QueueLook) -> str:
    """Return the queues in one line, for output without a terminal."""
    ages = [one.oldest_seconds for one in found.by_type.values() if one.oldest_seconds is not None]
    parts = [
        f"{counted(found.events + found.staged, 'item')} waiting",
        f"{found.processing + found.leftover:,} in the ledger",
        counted(found.failed, "dead letter"),
        f"oldest {span(max(ages, default=None))}",
        f"arriving {_rate(found.arriving_per_minute, 'item')}",
        f"settled {_rate(found.settled_per_minute, 'event')}",
        f"Redis {_redis(found.redis)}",
    ]
    return "; ".join(parts)
