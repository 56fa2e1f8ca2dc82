"""Each view is drawn as its file in tests/unit/golden; `uv run python -m tests.unit.test_golden` draws them anew."""

from __future__ import annotations

from pathlib import Path

import msgspec

from rlm.core.documents import QueueLook
from rlm.terminal.queue import queue_line, queue_picture
from rlm.terminal.record import line_of, picture_of
from tests.each import each
from tests.unit.statuses import DEFAULT_TYPES, endpoint, record, rest, status
from tests.unit.test_view import LEFT, drawn

FOLDER = Path(__file__).with_name("golden")
WIDTH = 100
#: A run that leaves events over, with an endpoint that rests, and a budget.
TROUBLED = status(
    types=("A", "B"),
    endpoints=2,
    workers=1,
    by_budget={"account": endpoint(["A"], 50, allowed=50, free=0)},
    forecast={**LEFT, "binds": "the limit of A (30/minute) binds"},
)


def queues(**more):
    """Return a document of the monitor."""
    found = {
        "as_of": "2026-11-25T10:15:00.000Z",
        "events": 1200,
        "staged": 3,
        "processing": 0,
        "failed": 2,
        "leftover": 40,
        "by_type": {name: {"pending": 300, "oldest_seconds": 61.0} for name in DEFAULT_TYPES},
        "run": None,
        "redis": {"ping_ms": 0.4, "used_bytes": 12_345_678, "max_bytes": 0},
        "arriving_per_minute": 120.0,
        "settled_per_minute": None,
        **more,
    }
    return msgspec.convert(found, QueueLook)


VIEWS = {
    "run": (picture_of, line_of, status()),
    "troubled": (picture_of, line_of, TROUBLED),
    "record": (picture_of, line_of, record()),
    "rest": (picture_of, line_of, rest()),
    "queues": (queue_picture, queue_line, queues()),
}


def shown(name):
    """Return a view as a picture and as a line."""
    picture, line, document = VIEWS[name]
    lines = [one.rstrip() for one in drawn(picture(document), WIDTH).splitlines()]
    return "\n".join([*lines, line(document), ""])


@each("name", VIEWS)
def test_a_view_is_drawn_as_its_file(name):
    """The picture on 100 columns, and the line of `--follow` in a pipe."""
    assert shown(name) == (FOLDER / f"{name}.txt").read_text(encoding="utf-8")


if __name__ == "__main__":
    for each_name in VIEWS:
        (FOLDER / f"{each_name}.txt").write_text(shown(each_name), encoding="utf-8")
