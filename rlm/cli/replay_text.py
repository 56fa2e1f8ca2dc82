"""How `rlm plan --replay` answers: a sentence, a row for each run that left something over, and what is to be known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.cli.printing import print_json, show, show_words, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.admin.replay import Replay
    from rlm.admin.replay.chain import Played

#: The most runs shown; of more, the first and the last are.
MOST_SHOWN = 20
FIRST_SHOWN, LAST_SHOWN = 9, 10


def show_replay(found: Replay) -> None:
    """Print the answer."""
    print_json(found.as_json())
    show_words(found.sentence)
    if rows := list(_rows(found)):
        each = ["replayed", *(["what if"] if found.case else [])]
        headings = ["run", "left over", *each, "finish", *each]
        show()
        table(headings, _shortened(rows), right=headings[1:])
    if found.notes:
        show()
    for note in found.notes:
        show_words(note)


def _rows(found: Replay) -> Iterator[list[str]]:
    """Yield a row for each run that left events over, then or in a replay."""
    for one in found.runs:
        played = [one.recorded, one.unchanged, *([one.what_if] if one.what_if else [])]
        if any(each.leftover for each in played):
            yield [one.run_id, *(f"{each.leftover:,}" for each in played), *map(_finish, played)]


def _shortened(rows: list[list[str]]) -> list[list[str]]:
    if len(rows) <= MOST_SHOWN:
        return rows
    return [*rows[:FIRST_SHOWN], ["..."] * len(rows[0]), *rows[-LAST_SHOWN:]]


def _finish(played: Played) -> str:
    return f"{played.finish_seconds:.1f} s" if played.finish_seconds else "-"
