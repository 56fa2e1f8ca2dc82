"""The group of all commands; each is imported when it is used, and ends with a message and an exit code."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import click

from rlm import __version__
from rlm.cli.common import CommandError, ExitCode, examples
from rlm.cli.options import DEBUG_OPTION
from rlm.cli.printing import is_terminal, say, say_error
from rlm.core.errors import RLMError


class LastWords(logging.Handler):
    """Prints warnings of RLM and of libraries if the command keeps no log, with secrets masked."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message on stderr."""
        say(_masked(record.getMessage()))


@contextmanager
def orderly(ctx: click.Context) -> Iterator[None]:
    """End a failing command with one message and an `ExitCode`; with `--debug` print the traceback first.

    click handles its own exceptions. After a closed pipe or Ctrl-C the command ends silently, with the exit code that a
    shell gives for the signal: 128 plus its number.
    """
    logging.lastResort = LastWords(logging.WARNING)
    try:
        yield
    except (click.ClickException, click.Abort, click.exceptions.Exit):
        raise
    except RLMError as error:
        raise _end(ctx, error, str(error), error.exit_code) from error
    except BrokenPipeError as error:
        raise unread() from error
    except KeyboardInterrupt as error:
        if is_terminal(err=True):
            say("")  # end the line that shows ^C
        raise SystemExit(int(ExitCode.INTERRUPTED)) from error
    except OSError as error:
        raise _end(ctx, error, str(error)) from error
    except Exception as error:
        if logging.getLogger().handlers:  # this process keeps a log, which Sentry reads
            logging.getLogger("rlm.process").critical(
                "The process ends with an unexpected error", exc_info=error, extra={"action": "end_process"}
            )
        what = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
        words = f"{what}. This is a fault of RLM. Run it again with --debug, and report what that prints."
        raise _end(ctx, error, words) from error


def unread() -> SystemExit:
    """Return the exit for a closed pipe, and discard what is still buffered for it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return SystemExit(int(ExitCode.PIPE))


def _end(ctx: click.Context, error: Exception, words: str, code: int = ExitCode.FAILED) -> SystemExit:
    if ctx.meta.get("rlm.debug") or os.environ.get("RLM_DEBUG", "0") not in {"", "0"}:
        say(_masked("".join(traceback.format_exception(error))).rstrip())
    (say if code == ExitCode.INTERRUPTED else say_error)(_masked(words))
    return SystemExit(code)


def _masked(words: str) -> str:
    """Mask secrets. Without a loaded configuration there are none, and importing the mask would cost time."""
    if "rlm.settings.secrets" not in sys.modules:
        return words
    from rlm.settings.secrets import mask

    return mask(words)


#: The commands by section of the overview: module of `rlm.cli`, name in it, and summary.
OVERVIEW = {
    "Try it": {
        "demo": ("sandbox", "demo", "Show the whole system at work: one window, live, nothing needed."),
        "mock-api": ("sandbox", "mock_api", "Serve an API that enforces the limits strictly."),
    },
    "Set it up": {
        "init": ("config", "init", "Write a commented configuration to begin with."),
        "config": ("config", "config", "See the configuration and where each value comes from; check it."),
    },
    "Run it": {
        "up": ("up", "up", "Run all processes of the Procfile in this terminal."),
        "scheduler": ("processes", "scheduler", "Start runs on the wall clock and conduct them."),
        "supervisor": ("processes", "supervisor", "Keep the wanted workers alive on this host."),
        "worker": ("processes", "worker", "Start a worker by hand; list the workers and hosts."),
        "web": ("processes", "web", "Serve the dashboard, JSON, metrics for Prometheus and a health check."),
    },
    "Watch it": {
        "status": ("runs", "status", "Show the current run, or another."),
        "list": ("runs", "list_runs", "List recent runs, newest first."),
        "result": ("runs", "result", "Show the record of the last run, or of another."),
        "plan": ("plan", "plan", "Forecast a run for what waits now, or for given counts."),
        "explain": ("events", "explain", "Show where one event is, why it waited, and each attempt."),
    },
    "Steer it": {
        "start": ("runs", "start", "Start a run now."),
        "cancel": ("runs", "cancel", "End a run now; nothing is lost."),
        "queue": ("queue", "queue", "See what waits; push, clear, drop."),
        "failed": ("failed", "failed", "See dead letters; retry or drop them."),
        "endpoint": ("endpoint", "endpoint", "See the endpoints; pause, resume, change a limit."),
    },
    "Check it": {
        "doctor": ("doctor", "doctor", "Check the installation; print what is wrong and what to do."),
        "test": ("sandbox", "test", "Test the installation: marked events, real processes, a mock API."),
        "compliance": ("doctor", "compliance", "Show whether any limit was exceeded, from the log of calls sent."),
    },
}
COMMANDS = {name: place for commands in OVERVIEW.values() for name, place in commands.items()}


class LazyGroup(click.Group):
    """A group that imports a command when it is used, and turns errors into messages and exit codes."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names of the commands in the order of the overview."""
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module, name, _ = COMMANDS[cmd_name]
        return cast("click.Command", getattr(importlib.import_module(f"rlm.cli.{module}"), name))

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by section, without importing them."""
        width = max(map(len, COMMANDS))
        for title, commands in OVERVIEW.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:<{width}}", line) for name, (_, _, line) in commands.items()])

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Parse the command line up to the command; `--help` and `--version` are answered here."""
        try:
            return super().make_context(*args, **extra)
        except BrokenPipeError as error:
            raise unread() from error
        except OSError as error:
            raise CommandError(str(error)) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command inside `orderly`."""
        with orderly(ctx):
            return super().invoke(ctx)


def _tie(ctx: click.Context, _param: click.Parameter, parent: int | None) -> None:
    """Stop this process when its starter is killed, as the starter, such as `rlm demo`, would have done."""
    if parent is not None:
        from rlm.processes.group import die_with

        if not die_with(parent):
            ctx.exit()


@click.group(
    cls=LazyGroup,
    params=[DEBUG_OPTION],
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "rlm demo                  # see the whole system at work, in half a minute",
        "rlm init                  # write a configuration to begin with",
        "rlm queue push FILE       # push items, then ...",
        "rlm start --wait          # ... send what waits, now",
        "rlm status --help         # what a command does, and examples",
    ),
)
@click.option(
    "--tied-to", type=int, hidden=True, is_eager=True, expose_value=False, callback=_tie, help="The starter's pid."
)
@click.version_option(__version__, prog_name="rlm")
def rlm() -> None:
    """RLM, the Rate Limit Manager.

    Sends queued events to rate-limited HTTP APIs within a window: none lost, no limit exceeded, the end known
    beforehand. Begin with `rlm demo`.

    Exit codes: 0 done; 1 it ran and failed; 2 usage or configuration; 3 no such run or event; 4 Redis not reachable or
    not fit for use; 130 interrupted; 141 nobody reads on.
    """


rlm.commands = dict.fromkeys(COMMANDS, rlm)  # click suggests one of these names for an unknown one
