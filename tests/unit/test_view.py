"""Runs and queues on a terminal, from documents only."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from rlm.terminal.live import Drawn, Lines
from rlm.terminal.record import picture_of
from tests.each import each
from tests.unit.statuses import DEFAULT_TYPES, endpoint, record, rest, status

WIDTHS = (20, 30, 40, 52, 80, 140)
HOSTILE = "\x1b[2J\x9b31m\u202e\nown line[/red]"
LONG = "A_TYPE_WHOSE_NAME_IS_LONGER_THAN_ANYBODY_WOULD_LIKE_TO_READ_ON_A_TERMINAL_OF_EIGHTY_COLUMNS"


def drawn(picture, width, **options):
    console = Console(file=io.StringIO(), width=width, force_terminal=False, **options)
    console.print(picture)
    return console.file.getvalue()


LEFT = {"as_of": "2026-11-25T10:16:13.123Z", "expected_leftover": 120, "forecast_seconds": 170, "workers": 3}
CALLING = status(types=(LONG,), endpoints=12)
DOCUMENTS = {
    "five types": status(),
    "one type": status(types=("A",), endpoints=1),
    "long names": status(types=(LONG, f"{LONG}_2"), endpoints=6),
    "many endpoints": CALLING,
    "many types": status(types=[f"TYPE_{number}" for number in range(20)]),
    "many workers": status(workers=20),
    "draining": status(state="draining", called_seconds=None, workers=0, plan=None, to_take=12345),
    "no types": status(types=()),
    "wide characters": status(types=("余额检查" * 12,)),
    "left over": status(forecast={**LEFT, "binds": f"{LONG} binds " * 4}),
    "budgets": status(by_budget={"account": endpoint(list(DEFAULT_TYPES), 50, allowed=50, free=0)}),
    "finished": record(),
    "failed": record(failure="no worker came up: " * 9),
    "finished with long names": record(types=(LONG,), endpoints=12),
    "at rest": rest(),
    "never run": rest(last_record=None, last=None, last_tick=None, schedulers=0),
}


@each("width", WIDTHS)
@each("name", DOCUMENTS)
def test_no_line_is_wider_than_the_terminal(name, width):
    """Whatever there is to show, at any width, and with no more than ASCII as well."""
    picture = picture_of(DOCUMENTS[name])

    assert max(map(cell_len, drawn(picture, width).splitlines())) <= width


@each("width", WIDTHS)
@each("name", ["one type", "five types", "finished", "budgets", "at rest"])
def test_no_value_is_cut_on_a_narrow_terminal(name, width):
    """Whole columns are omitted and texts are wrapped; only names, and what a worker does, are cut, with a mark."""
    picture = drawn(picture_of(DOCUMENTS[name]), width)
    lines = [line.strip("│╭╮╰╯─ ") for line in picture.splitlines()]
    told = {word for line in lines for word in line.split()}

    assert "20261125T101500123Z-1a2b" in "".join(lines), "the id, if on two lines"
    if name != "at rest":
        assert ("60/180" in told) is (name != "finished")
        assert not [word for word in told if word[0].isdigit() and "…" in word]
    assert ("30/minute" in told) is ("limit" in told)


#: What is parsed, and no text to show.
PARSED = frozenset({"state", "as_of", "deadline", "kind", "severity"})


def hostile(document):
    """Return the document with something hostile at the end of every text except the states, which are parsed."""
    if isinstance(document, dict):
        return {
            name + HOSTILE * name.isupper(): value if name in PARSED and value != "ready" else hostile(value)
            for name, value in document.items()
        }
    if isinstance(document, list):
        return [hostile(one) for one in document]
    return f"{document}{HOSTILE}" if isinstance(document, str) else document


@pytest.mark.parametrize("name", ["one type", "left over", "budgets", "finished", "idle"])
def test_text_from_outside_is_made_visible(name):
    """Whatever another program wrote into Redis, whichever field it is: no command, no line of its own, no markup."""
    document = rest() if name == "idle" else DOCUMENTS[name]
    told = msgspec.convert(hostile(msgspec.to_builtins(document)), type(document))

    picture = drawn(picture_of(told), 140)

    assert not {"\x1b", "\u202e", "\x9b"} & set(picture)
    assert not any(line.startswith("own line") for line in picture.splitlines())
    assert "\\u001b" in picture


def test_lines_come_with_changes_and_trouble_is_told_once():
    """Until things are known again, which is worth a line."""
    told = []
    lines = Lines(told.append, lambda found: found["text"], lambda found: found["text"])
    with lines:
        for text in ("a", "a", "b"):
            lines.show({"text": text})
        lines.trouble("Redis is away")
        lines.trouble("Redis is away")
        lines.show({"text": "b"})

    assert [line[10:] for line in told] == ["a", "b", "out of date, trying again: Redis is away", "b"]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def test_a_picture_is_drawn_in_place_and_kept_while_redis_is_away(monkeypatch):
    """What was known last stays, and above it why it is out of date; in the end the cursor is there again."""
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Drawn(stream, lambda found, _height: Text(found["text"])) as view:
        view.show({"text": "the picture"})
        view.trouble("Redis is away")

    written = stream.getvalue()
    assert written.rindex("the picture") > written.index("Out of date for 0 s, trying again: Redis is away")
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")
