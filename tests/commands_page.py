"""Makes docs/commands.md, the reference of all commands, from click's descriptions."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import click

from rlm.cli.common import ExitCode
from rlm.cli.group import OVERVIEW, rlm

if TYPE_CHECKING:
    from collections.abc import Iterator

_INTRODUCTION = """\
# Commands

This page is generated from the commands themselves by `tests/commands_page.py`; `--help` after any of them prints the
same. What they print with `--json`: [json.md](json.md).

Every command has these:

| option | meaning |
|---|---|
| `--config FILE` | the configuration file; else `$RLM_CONFIG`, else `./rlm.toml`, else the built-in defaults |
| `--debug` | show the traceback of an error; also before the command, or with `RLM_DEBUG=1` in the environment |
| `--help`, `-h` | show what the command does, with examples |

and those that print data have `--json`: one document on stdout, and nothing else there. Data goes to stdout, all
messages to stderr. Colours and live views are for terminals; `NO_COLOR`, `FORCE_COLOR` and `TERM=dumb` are honoured.

| exit code | meaning |
|---|---|
"""
_EXITS = {
    ExitCode.DONE: "done",
    ExitCode.FAILED: "it ran and failed",
    ExitCode.USAGE: "usage or configuration; also an endpoint, a type or a host that does not exist, unless to filter",
    ExitCode.NOT_FOUND: "no such run, event or dead letter",
    ExitCode.REDIS: "Redis cannot be reached, or is not fit to keep events",
    ExitCode.INTERRUPTED: "interrupted with Ctrl-C; a view, or a process that runs until then, ends with 0",
    ExitCode.PIPE: "the reader of its output went away",
}
#: The options of every command.
_COMMON = {"--config", "--debug", "--help"}
_WIDTH = 120


def commands_reference() -> str:
    """Return the reference of every command, in Markdown."""
    parts = [_INTRODUCTION + "".join(f"| {int(code)} | {meaning} |\n" for code, meaning in _EXITS.items())]
    context = click.Context(rlm, info_name="rlm")
    for title, commands in OVERVIEW.items():
        parts.append(f"## {title}\n")
        parts += [part for name in commands for part in _described(context, rlm, name)]
    return "\n".join(parts)


def _described(parent: click.Context, group: click.Group, name: str) -> Iterator[str]:
    """Yield the description of a command, or of each command of a group."""
    command = group.get_command(parent, name) or click.Command(name)  # it is one of the group's
    context = click.Context(command, info_name=name, parent=parent)
    if not isinstance(command, click.Group) or command.invoke_without_command:
        yield from _as_command(context, command)
    if isinstance(command, click.Group):
        for sub in command.list_commands(context):
            yield from _described(context, command, sub)


def _as_command(context: click.Context, command: click.Command) -> Iterator[str]:
    """Yield the description of a runnable command."""
    yield f"### `{context.command_path}`\n"
    usage = command.get_usage(context).removeprefix("Usage: ")
    yield f"```text\n{' '.join(usage.split())}\n```\n"
    wrapper = textwrap.TextWrapper(_WIDTH, break_long_words=False, break_on_hyphens=False)
    paragraphs = (command.help or "").split("\n\n")
    yield "\n\n".join(wrapper.fill(" ".join(one.split())) for one in paragraphs) + "\n"
    rows = [
        "| `{}` | {} |\n".format(*(" ".join(cell.split()).replace("|", "\\|") for cell in record))
        for param in command.get_params(context)
        if not _COMMON.intersection(param.opts) and (record := param.get_help_record(context))
    ]
    if rows:
        yield "".join(["| option | meaning |\n|---|---|\n", *rows])
    examples = [f"{line.strip()}\n" for line in (command.epilog or "").splitlines() if line.startswith("  ")]
    yield f"```sh\n{''.join(examples)}```\n"


if __name__ == "__main__":
    print(commands_reference(), end="")  # into docs/commands.md
