"""docs/commands.md names every command with its options and every exit code, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import click

from rlm.cli.group import rlm

PAGE = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")
#: The options of every command, which the page names once.
COMMON = {"--config", "--debug", "--help"}


def commands(command, name="rlm"):
    """Yield each runnable command by name, with its context."""
    context = click.Context(command, info_name=name, terminal_width=80)
    if not isinstance(command, click.Group) or (command.invoke_without_command and command is not rlm):
        yield name, context
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            yield from commands(command.get_command(context, below), f"{name} {below}")


def options(context):
    """Return the visible options of a command by their long names."""
    params = [one for one in context.command.get_params(context) if isinstance(one, click.Option) and not one.hidden]
    return {max(one.opts, key=len) for one in params} - COMMON


def test_every_command_and_option_is_on_the_page_and_no_other():
    rows = re.findall(r"^\| `(rlm [a-z -]+)` \| [^|]+ \| ([^|]*)\|$", PAGE, re.MULTILINE)
    described = {name: set(re.findall(r"`(--[a-z-]+)`", cell)) for name, cell in rows}

    assert described == {name: options(context) for name, context in commands(rlm)}


def test_every_exit_code_is_on_the_page_and_no_other():
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)] == [0, 1, 2, 3, 4, 130, 141]
