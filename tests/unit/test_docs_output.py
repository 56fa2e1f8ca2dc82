"""The command outputs on the beginners' pages are the real ones."""

from __future__ import annotations

import io
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from rlm.cli.group import rlm
from rlm.settings import load_settings
from rlm.terminal.record import record_picture

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty directory, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def blocks(page):
    return _BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))


def shown(page, command):
    """Return the block of text below the first block of shell with `command`."""
    below = iter(blocks(page))
    assert any(kind == "sh" and command in block.splitlines() for kind, block in below), command
    return next(block for kind, block in below if kind == "text")


def printed(*commands):
    """Return the output of the commands, one after the other, in a shell of 80 columns, separated by empty lines."""
    done = [CliRunner(env={"COLUMNS": "80"}).invoke(rlm, shlex.split(one)[1:]) for one in commands]
    assert [one.exit_code for one in done] == [0] * len(done), [one.output for one in done]
    return "\n".join(one.stdout for one in done)


def masked(text, place=None):
    """Return a text without what differs between installations: its directory, and the digits of a revision."""
    text = text.replace(str(place), "/srv/first").replace("/srv/howto", "/srv/first")
    return re.sub(r"Revision [0-9a-f]{12}", "Revision", text)


def test_the_quickstart_shows_what_init_and_config_print(place):
    """Step by step, in an empty directory."""
    assert printed("rlm init") == shown("quickstart.md", "rlm init")

    commands = ["rlm config check", "rlm config show run workers"]
    assert masked(printed(*commands), place) == masked(shown("quickstart.md", commands[0]))


def test_the_quickstart_shows_the_revision_of_a_new_file(place):
    """Who compares two hosts by it finds the one that the page shows."""
    printed("rlm init")
    told = re.search(r"5 types, .*Revision \w+", printed("rlm config check"))[0]

    assert set(re.findall(r"5 types, .*Revision \w+", (DOCS / "quickstart.md").read_text(encoding="utf-8"))) == {told}


def test_the_how_to_shows_what_config_prints_of_an_added_type(place):
    """The first two tables of the page in one file."""
    tables = [block for kind, block in blocks("howto.md") if kind == "toml"]
    (place / "rlm.toml").write_text("\n".join(tables[:2]))

    commands = ["rlm config check", "rlm config show types.REPORT_DUE"]
    assert masked(printed(*commands), place) == masked(shown("howto.md", commands[0]))


def test_the_quickstart_shows_what_becomes_of_a_run():
    """The picture of its record, but for the types that are left out there, its id and its times."""
    types = load_settings(None, {}).event_types
    nothing = dict.fromkeys(("taken", "carried_over", "completed", "failed", "leftover"), 0)
    unused = {**dict.fromkeys(("calls", "completed", "throttled", "errors", "peak_in_window"), 0), "p50_ms": 0}
    used = {**unused, "calls": 1, "completed": 1, "peak_in_window": 1, "p50_ms": 2002}
    ends = [end.name for one in types for end in one.endpoints]
    record = {
        "run_id": "20261125T181108224Z-1ccb",
        "state": "completed",
        "trigger": "manual",
        "started_at": "2026-11-25T18:11:08.224Z",
        "finished_at": "2026-11-25T18:11:10.420Z",
        "duration_seconds": 2.2,
        "window_seconds": 180.0,
        "counts": {**nothing, "taken": 1, "completed": 1, "invalid": 0, "duplicates": 0},
        "by_type": {one.name: nothing for one in types} | {types[0].name: {**nothing, "taken": 1, "completed": 1}},
        "by_endpoint": {name: {**(unused if at else used), "limit": "30/minute"} for at, name in enumerate(ends)},
        "plan": {"workers": 1, "threads": 5, "forecast_seconds": 2.0, "actual_seconds": 2.0, "expected_leftover": 0},
        "workers": {"peak": 1, "restarted": 0},
        "used": {
            "calls_per_minute": 30.0,
            "lanes": 0.2,
            "slots": 0.008,
            "answered_p50_seconds": 2.1,
            "answered_p95_seconds": 2.1,
        },
    }
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    console.print(record_picture(record))

    text = next(block for _, block in blocks("quickstart.md") if "╭─ run 20261125" in block)
    lines = text.partition("╭")[2].splitlines()
    cut = next(at for at, line in enumerate(lines) if re.fullmatch(r"│ \.\.\. +│", line))
    drawn = console.file.getvalue().partition("╭")[2].splitlines()
    left_out = len(types) - 2
    assert drawn[:cut] == lines[:cut]
    assert drawn[cut + left_out :] == lines[cut + 1 :]
