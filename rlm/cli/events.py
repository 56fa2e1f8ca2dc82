"""`rlm explain`: where one event is, why it waited, and each attempt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rlm.cli.common import command, store_of
from rlm.cli.printing import print_json, show, table
from rlm.core.documents import ItemView
from rlm.core.text import counted, one_line, span

if TYPE_CHECKING:
    from rlm.core.documents import EventView

#: Most characters of an answer in the list.
ANSWER_WIDTH = 80


@command(
    "rlm explain a-1                     # all events of an item",
    "rlm explain a-1:REBALANCE_NEEDED    # one of them",
)
@click.argument("event", metavar="EVENT")
def explain(config: Path | None, event: str) -> None:
    """Show where one event is, what it waits for, and each attempt with its endpoint, time and answer.

    EVENT is an event id, ITEM:TYPE, or the id of an item, which stands for all its events. Settled events are known for
    queue.dedupe_seconds. On the audit list the 100,000 oldest items are looked at. Exits with 3 if EVENT is not known.
    """
    from rlm.admin.explain import explanation

    with store_of(config) as store:
        explained = explanation(store, event)
    print_json(explained)
    for number, view in enumerate(explained.events if isinstance(explained, ItemView) else (explained,)):
        if number:
            show()
        _describe(view)


def _describe(view: EventView) -> None:
    show(f"{view.sentence}.")
    for condition in view.conditions:
        show(f"{condition.severity}: {condition.sentence}: {condition.remedy}.")
    if view.letter:
        show(f"`rlm failed show {one_line(view.letter.id, ANSWER_WIDTH)}` shows the letter.")
    if view.attempts:
        show()
        if view.calls > len(view.attempts):
            show(f"The newest {len(view.attempts):,} of {counted(view.calls, 'call')}:")
        rows = [
            [
                call.attempt,
                call.at,
                call.endpoint,
                call.answer,
                None if call.seconds is None else f"{call.seconds:.2f} s",
                one_line(call.text, ANSWER_WIDTH),
                call.host,
            ]
            for call in view.attempts
        ]
        headings = ["attempt", "ended", "endpoint", "answer", "took", "in words", "host"]
        table(headings, rows, right=["attempt", "took"])
    if view.endpoints:
        show()
        gates = [
            [
                gate.name,
                f"{gate.health} ({gate.circuit_reason})" if gate.circuit_reason else gate.health,
                f"{gate.free:,}",
                "until resumed" if gate.next_slot_seconds is None else span(gate.next_slot_seconds),
            ]
            for gate in view.endpoints
        ]
        table(["endpoint", "health", "free slots", "next in"], gates, right=["free slots", "next in"])
