"""The group of all commands; each is imported when it is asked for, and ends with a message and an exit code."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import traceback
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from rlm import __version__
from rlm.cli.common import CommandError, ExitCode, Group, examples, exit_code_of
from rlm.cli.options import DEBUG, debug_option
from rlm.cli.printing import is_terminal, say, say_error
from rlm.core.errors import RLMError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click.shell_completion import CompletionItem

#: Where RLM's packages are installed, and which they are.
_HOME = Path(__file__).parents[2]
_PACKAGES = frozenset({"rlm", "scheduler", "actors"})


class LastWords(logging.Handler):
    """Prints warnings of RLM and of libraries if the command keeps no log, with secrets masked."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message on stderr."""
        say(_masked(record.getMessage()))


@contextmanager
def orderly(ctx: click.Context) -> Iterator[None]:
    """End a command that fails with one message and an `ExitCode`; with `--debug` print the traceback first.

    click handles its own exceptions. A closed pipe and Ctrl-C end the command silently, with the exit code that a shell
    gives for the signal: 128 plus its number.
    """
    logging.lastResort = LastWords(logging.WARNING)
    try:
        yield
    except (click.ClickException, click.Abort, click.exceptions.Exit):
        raise
    except RLMError as error:
        raise _end(ctx, error, str(error), exit_code_of(error)) from error
    except BrokenPipeError as error:
        raise unread() from error
    except KeyboardInterrupt as error:
        if is_terminal(err=True):
            say("")  # ends the line that shows ^C
        raise SystemExit(int(ExitCode.INTERRUPTED)) from error
    except OSError as error:
        raise _end(ctx, error, f"{error}; run it again with --debug to see where", ExitCode.FAILED) from error
    except Exception as error:
        _report(error)
        raise _end(ctx, error, _fault(error), ExitCode.FAILED) from error


def unread() -> SystemExit:
    """Return the exit for a closed pipe, and discard what is still buffered for it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return SystemExit(int(ExitCode.PIPE))


def _end(ctx: click.Context, error: Exception, words: str, code: ExitCode) -> SystemExit:
    if is_debugging(ctx):
        say(_masked("".join(traceback.format_exception(error))).rstrip())
    say_error(_masked(words))
    return SystemExit(int(code))


def _fault(error: Exception) -> str:
    """Describe an unexpected error: what it is and where it was raised."""
    what, where = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": "), _where(error)
    whose = ", or another program wrote into its keys" if "rlm/ledger/" in where else ""
    return f"{what}{where}. This is a fault of RLM{whose}. Run it again with --debug, and report what that prints."


def _where(error: Exception) -> str:
    """Return the last line of RLM's own in the traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f" ({place}:{frame.lineno})" for frame in frames if (place := _place(Path(frame.filename)))]
    return ours[-1] if ours else ""


def _place(file: Path) -> str:
    """Return the path of a file relative to RLM's home, '' for a file of others."""
    if not file.is_relative_to(_HOME):
        return ""
    place = file.relative_to(_HOME)
    return place.as_posix() if place.parts[0] in _PACKAGES else ""


def _masked(words: str) -> str:
    """Mask secrets. Without a loaded configuration none is known, and importing the mask would cost time."""
    if "://" not in words and "rlm.settings.secrets" not in sys.modules:
        return words
    from rlm.settings.secrets import known

    return known().mask(words)


def _report(error: Exception) -> None:
    """Log the error if this process keeps a log; Sentry gets it from there."""
    if logging.getLogger().handlers:
        logging.getLogger("rlm.process").critical(
            "The process ends by an error nobody foresaw", exc_info=error, extra={"action": "end_process"}
        )


def is_debugging(ctx: click.Context) -> bool:
    """Return whether tracebacks are wanted: `--debug` before or after the command, or RLM_DEBUG."""
    return bool(ctx.meta.get(DEBUG)) or os.environ.get("RLM_DEBUG", "0") not in {"", "0"}


#: A shell sets this variable to ask for completions (`rlm completion`).
COMPLETE_VARIABLE = "_RLM_COMPLETE"

#: Where each command lives: module of `rlm.cli`, name in it, and its one line in the overview.
COMMANDS = {
    "demo": ("sandbox", "demo", "Show the whole system at work: one window, live, nothing needed."),
    "up": ("up", "up", "Run all processes of the Procfile in this terminal."),
    "scheduler": ("processes", "scheduler", "Start runs on the wall clock and conduct them."),
    "supervisor": ("processes", "supervisor", "Keep the wanted number of workers alive on this host."),
    "worker": ("processes", "worker", "Start a worker by hand; list who works."),
    "web": ("processes", "web", "Serve metrics for Prometheus, and a health check, over HTTP."),
    "start": ("runs", "start", "Start a run now."),
    "status": ("runs", "status", "Show the current run, or another."),
    "result": ("runs", "result", "Show the record of the last run, or of another."),
    "list": ("runs", "list_runs", "List recent runs, newest first."),
    "cancel": ("runs", "cancel", "End a run now; nothing is lost."),
    "queue": ("queue", "queue", "See what waits; push, clear, drop."),
    "failed": ("failed", "failed", "See dead letters; retry or drop them."),
    "plan": ("plan", "plan", "Forecast a run for what waits now, or for given counts."),
    "endpoint": ("endpoint", "endpoint", "See the endpoints; pause, resume, change a limit."),
    "explain": ("explain", "explain", "Show where one event is, why it waited, and each attempt."),
    "compliance": ("doctor", "compliance", "Show whether any limit was exceeded, from the log of calls sent."),
    "doctor": ("doctor", "doctor", "Check the installation; say what is wrong and what to do."),
    "test": ("sandbox", "test", "Test the installation: marked events, real processes, a mock API."),
    "init": ("config", "init", "Write a commented configuration to begin with."),
    "config": ("config", "config", "See the configuration and where each value comes from; check it."),
    "completion": ("completion", "completion", "Have a shell complete commands, options and names."),
    "mock-api": ("sandbox", "mock_api", "Serve an API that enforces the limits strictly."),
}


#: The sections of the overview with their commands. Commands in no section come last.
OVERVIEW = {
    "Try it": ("demo", "mock-api"),
    "Set it up": ("init", "config", "completion"),
    "Run it": ("up", "scheduler", "supervisor", "worker", "web"),
    "Watch it": ("status", "list", "result", "plan", "explain"),
    "Steer it": ("start", "cancel", "queue", "failed", "endpoint"),
    "Check it": ("doctor", "test", "compliance"),
}


class LazyGroup(Group):
    """A group that imports a command when it is used, and turns errors into messages and exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """Return the names of the commands in the order of the overview."""
        placed = [name for names in OVERVIEW.values() for name in names if name in COMMANDS]
        return [*placed, *(name for name in COMMANDS if name not in placed)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's signature
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module, name, _ = COMMANDS[cmd_name]
        return cast("click.Command", getattr(importlib.import_module(f"rlm.cli.{module}"), name))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by section, without importing them."""
        names = self.list_commands(ctx)
        width = max(map(len, names))
        for title in [*OVERVIEW, "More"]:
            placed = OVERVIEW.get(title) or set(names).difference(*OVERVIEW.values())
            rows = [(f"{name:<{width}}", COMMANDS[name][2]) for name in names if name in placed]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the name of a command without importing any."""
        from click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        names = self.list_commands(ctx)
        return [CompletionItem(name, help=COMMANDS[name][2]) for name in names if name.startswith(incomplete)]

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Parse the command line up to the command; `--help` and `--version` are answered here."""
        try:
            return super().make_context(*args, **extra)
        except BrokenPipeError as error:
            raise unread() from error
        except OSError as error:  # for example a full disk
            raise CommandError(str(error)) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command inside `orderly`."""
        with orderly(ctx):
            return super().invoke(ctx)

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command line; if a shell asks for completions, without printing any error."""
        if COMPLETE_VARIABLE not in os.environ:
            return super().main(*args, **extra)
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # until this process ends
        with suppress(Exception):
            return super().main(*args, **{**extra, "complete_var": COMPLETE_VARIABLE})
        sys.exit(ExitCode.FAILED)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "rlm demo                  # see the whole system at work, in half a minute",
        "rlm init                  # write a configuration to begin with",
        "rlm queue push FILE       # push items, then ...",
        "rlm start --wait          # ... send what waits, now",
        "rlm status --help         # what a command does, and examples",
    ),
)
@debug_option
@click.version_option(__version__, prog_name="rlm")
def rlm() -> None:
    """RLM, the Rate Limit Manager.

    Sends queued events to rate-limited HTTP APIs within a window: none lost, no limit exceeded, the end known
    beforehand. Begin with `rlm demo`.

    Exit codes: 0 done; 1 it ran and failed; 2 usage or configuration; 3 no such run or event; 4 Redis not reachable or
    not fit for use; 130 interrupted; 141 nobody reads on.
    """
