"""docs/commands.md agrees with the commands' own help."""

from __future__ import annotations

from pathlib import Path

import click

from rlm.cli.common import ExitCode
from rlm.cli.group import COMMANDS, OVERVIEW, rlm
from tests.commands_page import _EXITS, commands_reference

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"


def test_page_is_up_to_date():
    """docs/commands.md is what `commands_reference` returns; write it there when a command changes."""
    assert PAGE.read_text(encoding="utf-8") == commands_reference()


def test_every_command_has_its_place_in_the_overview():
    """Once; what is there twice, or nowhere, would be listed twice, or last."""
    placed = [name for names in OVERVIEW.values() for name in names]

    assert len(placed) == len(set(placed))
    assert set(COMMANDS) - set(placed) == set()


def commands(one, name="rlm"):
    """Yield the name of a command and of all below it, each with its help on 80 columns."""
    context = click.Context(one, info_name=name, terminal_width=80)
    yield name, one.get_help(context)
    for below in one.list_commands(context) if isinstance(one, click.Group) else ():
        yield from commands(one.get_command(context, below), f"{name} {below}")


def test_help_fits_a_terminal_of_80_columns():
    """The examples, too, which are not wrapped."""
    found = dict(commands(rlm))

    assert len(found) > len(COMMANDS)
    assert [(name, line) for name, words in found.items() for line in words.splitlines() if len(line) > 80] == []


def test_every_exit_code_has_words():
    """Those of `ExitCode`, no more and no less."""
    assert set(_EXITS) == set(ExitCode)
