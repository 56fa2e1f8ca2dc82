"""The group of all commands; each is imported when it is asked for."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, cast

import click

from rlm import __version__
from rlm.cli.common import exit_code_of, say
from rlm.errors import RLMError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Where each command lives: module of `rlm.cli`, name in it, and its one line in the overview.
COMMANDS = {
    "demo": ("demo", "demo", "Show the whole system at work: one window, live, nothing needed."),
    "up": ("up", "up", "Run all processes of the Procfile in this terminal."),
    "scheduler": ("processes", "scheduler", "Start runs on the wall clock and conduct them."),
    "supervisor": ("processes", "supervisor", "Keep the wanted number of workers alive on this host."),
    "worker": ("processes", "worker", "Start a worker by hand; list who works."),
    "start": ("runs", "start", "Start a run now."),
    "status": ("runs", "status", "Show the current run, or another."),
    "result": ("runs", "result", "Show the record of the last run, or of another."),
    "list": ("runs", "list_runs", "List recent runs, newest first."),
    "cancel": ("runs", "cancel", "End a run now; nothing is lost."),
    "queue": ("queue", "queue", "See, fill or clear the audit list."),
    "failed": ("failed", "failed", "See dead letters; retry or drop them."),
    "plan": ("plan", "plan", "Forecast a run for what waits now, or for given counts."),
    "endpoint": ("endpoint", "endpoint", "See the endpoints; pause, resume, change a limit."),
    "explain": ("explain", "explain", "Say of one event where it is, why it waited, and each attempt."),
    "compliance": ("compliance", "compliance", "Show whether any limit was exceeded, from the log of calls sent."),
    "doctor": ("doctor", "doctor", "Check the installation; say what is wrong and what to do."),
    "mock-api": ("mock_api", "mock_api", "Serve an API that enforces the limits strictly."),
}


class LazyGroup(click.Group):
    """A group that imports a command when it is used, and turns RLM's errors into messages and exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """Name the commands in the order a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's signature
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module, name, _ = COMMANDS[cmd_name]
        return cast("click.Command", getattr(importlib.import_module(f"rlm.cli.{module}"), name))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; suggest the nearest one for a word that is none."""
        import difflib  # noqa: PLC0415  # only where somebody mistyped

        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def main(self, args: Sequence[str] | None = None, *more: Any, **extra: Any) -> Any:
        """Run a command; an error of RLM's becomes its message on stderr and its exit code."""
        try:
            return super().main(args, *more, **extra)
        except RLMError as error:
            say(f"Error: {error}")
            sys.exit(exit_code_of(error))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rlm")
def rlm() -> None:
    """RLM, the Rate Limit Manager.

    Sends queued events to rate-limited HTTP APIs within a window: none lost, no limit exceeded, the end known
    beforehand. Begin with `rlm demo`.

    Exit codes: 0 done; 1 it ran and failed; 2 usage or configuration; 3 no such run or event; 4 Redis not reachable or
    not fit for use.
    """
