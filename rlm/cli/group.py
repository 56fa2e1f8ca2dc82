"""The group of all commands; each is imported when it is used, and ends with a message and an exit code."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pkgutil import resolve_name
from typing import Any

import click

from rlm import __version__
from rlm.admin.errors import InterruptedByHandError
from rlm.cli.common import debug_option, in_lines, say, say_error
from rlm.core.errors import RLMError


class LastWords(logging.Handler):
    """Prints warnings of RLM and of libraries if the command keeps no log, with secrets masked."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message on stderr."""
        say(_masked(record.getMessage()))


@contextmanager
def orderly(ctx: click.Context | None = None) -> Iterator[None]:
    """End a failing command with one message and an exit code; with `--debug` print the traceback first.

    click handles its own exceptions. After a closed pipe or Ctrl-C the command ends with the exit code that a shell
    gives for the signal: 128 plus its number.
    """
    logging.lastResort = LastWords(logging.WARNING)
    try:
        yield
    except BrokenPipeError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still buffered
        raise SystemExit(141) from error
    except (KeyboardInterrupt, click.Abort) as error:
        is_by_hand = isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt)
        say("Nothing was changed; with --yes nobody is asked." if isinstance(error, click.Abort) else "")
        raise SystemExit(130 if is_by_hand else 1) from error
    except (click.ClickException, click.exceptions.Exit):
        raise
    except Exception as error:
        code, words = getattr(error, "exit_code", 1), str(error)
        if not isinstance(error, RLMError | OSError):
            if logging.getLogger().handlers:  # this process keeps a log, which Sentry reads
                words = "The process ends with an unexpected error"
                logging.getLogger("rlm.process").critical(words, exc_info=error, extra={"action": "end_process"})
            what = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
            words = f"{what}. This is a fault of RLM. Run it again with --debug, and report what that prints."
        if ctx and ctx.meta.get("rlm.debug"):
            say(_masked("".join(traceback.format_exception(error))).rstrip())
        (say if isinstance(error, InterruptedByHandError) else say_error)(_masked(words))
        raise SystemExit(code) from error


def _masked(words: str) -> str:
    from rlm.settings.secrets import mask  # a command that says nothing does not need it

    return mask(words)


#: The section of each command in the overview, its place in `rlm.cli`, and what it does: importing all takes 16 ms.
COMMANDS = {
    "demo": ("Try it", "sandbox:demo", "Show the whole system at work: one window, live, nothing needed."),
    "mock-api": ("Try it", "sandbox:mock_api", "Serve an API that enforces the limits strictly."),
    "init": ("Set it up", "check:init", "Write a commented configuration to begin with."),
    "config": ("Set it up", "check:config", "See the configuration and where each value comes from; check it."),
    "up": ("Run it", "processes:up", "Run all processes of the Procfile in this terminal."),
    "scheduler": ("Run it", "processes:scheduler", "Start runs on the wall clock and conduct them."),
    "supervisor": ("Run it", "processes:supervisor", "Keep the wanted workers alive on this host; see the hosts."),
    "worker": ("Run it", "processes:worker", "Start a worker by hand; list the workers."),
    "web": ("Run it", "processes:web", "Serve the dashboard, JSON, metrics for Prometheus and a health check."),
    "status": ("Watch it", "runs:status", "Show the current run, or another."),
    "list": ("Watch it", "runs:list_runs", "List the last runs, newest first."),
    "result": ("Watch it", "runs:result", "Show the record of the last run, or of another."),
    "plan": ("Watch it", "runs:plan", "Forecast a run without starting it."),
    "explain": ("Watch it", "events:explain", "Show where one event is, what it waits for, and each attempt."),
    "start": ("Steer it", "runs:start", "Start a run now."),
    "cancel": ("Steer it", "runs:cancel", "End a run now; nothing is lost."),
    "queue": ("Steer it", "events:queue", "See what waits; push, clear, drop."),
    "failed": ("Steer it", "events:failed", "See dead letters; retry or drop them."),
    "endpoint": ("Steer it", "endpoint:endpoint", "See the endpoints; pause, resume, change or share a limit."),
    "doctor": ("Check it", "check:doctor", "Check the installation; print what is wrong and what to do."),
    "test": ("Check it", "sandbox:test", "Test the installation: marked events, real processes, a mock API."),
    "compliance": ("Check it", "endpoint:compliance", "Show whether any limit was exceeded, from the log of calls."),
}


class LazyGroup(click.Group):
    """A group that imports a command when it is used, and turns errors into messages and exit codes."""

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        return resolve_name(f"rlm.cli.{COMMANDS[cmd_name][1]}") if cmd_name in COMMANDS else None

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by section."""
        for title, commands in groupby(COMMANDS.items(), lambda command: command[1][0]):
            with formatter.section(title):
                formatter.write_dl([(f"{name:<10}", what) for name, (_, _, what) in commands])

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Parse the command line up to the command; `--help` and `--version` are answered here."""
        with orderly():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
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
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=in_lines(
        "rlm demo                  # see the whole system at work, in 15 s",
        "rlm init                  # write a configuration to begin with",
        "rlm queue push FILE       # push items, then ...",
        "rlm start --wait          # ... send what waits, now",
        "rlm status --help         # what a command does, and examples",
    ),
)
@click.option("--tied-to", type=int, hidden=True, is_eager=True, expose_value=False, callback=_tie)
@click.version_option(__version__, prog_name="rlm")
def rlm() -> None:
    """RLM, the Rate Limit Manager.

    Sends queued events to rate-limited HTTP APIs within a window: none lost, no limit exceeded, the end known
    beforehand. Begin with `rlm demo`.

    Exit codes: 0 done; 1 it ran and failed; 2 usage or configuration; 3 no such run or event; 4 Redis not reachable or
    not fit for use; 130 interrupted; 141 nobody reads on.
    """


rlm.params.append(debug_option)
rlm.commands = dict.fromkeys(COMMANDS, rlm)  # click suggests one of these names for an unknown one
