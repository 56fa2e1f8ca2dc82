"""The command outputs on the beginners' pages are the real ones."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from rlm.cli.group import rlm

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
    text = text.replace(str(place), "/srv/first")
    return re.sub(r"Revision [0-9a-f]{30}", "Revision", text)


def test_the_quickstart_shows_what_init_and_config_print(place):
    """Step by step, in an empty directory."""
    assert printed("rlm init") == shown("quickstart.md", "rlm init")

    commands = ["rlm config check", "rlm config show run workers"]
    assert masked(printed(*commands), place) == masked(shown("quickstart.md", commands[0]))
