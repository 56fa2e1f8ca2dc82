"""The frame around every command: how it ends whatever happens in it, and what `--debug` tells of that."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rlm.cli.common import DEBUG, ExitCode, exit_code_of
from rlm.cli.printing import is_terminal, say, say_error
from rlm.core.errors import RLMError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Where RLM's packages are installed, and the packages: the name of a folder above them says nothing.
_HOME = Path(__file__).parents[2]
_PACKAGES = frozenset({"rlm", "scheduler", "actors"})


class LastWords(logging.Handler):
    """Tells the warnings of a command that keeps no log: its own, and those of libraries, without secrets."""

    def emit(self, record: logging.LogRecord) -> None:
        """Tell a person."""
        say(_masked(record.getMessage()))


@contextmanager
def orderly(ctx: click.Context) -> Iterator[None]:
    """Let a command end with one message and an exit code of `ExitCode`; with `--debug` the traceback goes before.

    What click raises stays click's. A reader that went away and Ctrl-C end it without a word: its exit code is what a
    shell makes of the signal, 128 and its number.
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
            say("")  # the line that shows ^C ends
        raise SystemExit(int(ExitCode.INTERRUPTED)) from error
    except OSError as error:
        raise _end(ctx, error, f"{error}; run it again with --debug to see where", ExitCode.FAILED) from error
    except Exception as error:
        _report(error)
        raise _end(ctx, error, _fault(error), ExitCode.FAILED) from error


def unread() -> SystemExit:
    """End for whoever reads no further; what is still buffered has nowhere to go."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return SystemExit(int(ExitCode.PIPE))


def _end(ctx: click.Context, error: Exception, words: str, code: ExitCode) -> SystemExit:
    if is_debugging(ctx):
        say(_masked("".join(traceback.format_exception(error))).rstrip())
    say_error(_masked(words))
    return SystemExit(int(code))


def _fault(error: Exception) -> str:
    """Say of an error nobody foresaw what it is and where it came up."""
    what, where = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": "), _where(error)
    whose = ", or another program wrote into its keys" if "rlm/ledger/" in where else ""
    return f"{what}{where}. This is a fault of RLM{whose}. Run it again with --debug, and report what that prints."


def _where(error: Exception) -> str:
    """Name the last line of RLM's own that the error came through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f" ({place}:{frame.lineno})" for frame in frames if (place := _place(Path(frame.filename)))]
    return ours[-1] if ours else ""


def _place(file: Path) -> str:
    """Return the path of a file of RLM's own from its package on; '' for any other file."""
    if not file.is_relative_to(_HOME):
        return ""
    place = file.relative_to(_HOME)
    return place.as_posix() if place.parts[0] in _PACKAGES else ""


def _masked(words: str) -> str:
    """Mask secrets; where no configuration was loaded, none is known, and loading what masks would take too long."""
    if "://" not in words and "rlm.settings.secrets" not in sys.modules:
        return words
    from rlm.settings.secrets import known  # noqa: PLC0415  # costs a tenth of a second, so only where it is needed

    return known().mask(words)


def _report(error: Exception) -> None:
    """Leave the whole story in the log of a process that keeps one, from where Sentry has it as well."""
    if logging.getLogger().handlers:
        logging.getLogger("rlm.process").critical(
            "The process ends by an error nobody foresaw", exc_info=error, extra={"action": "end_process"}
        )


def is_debugging(ctx: click.Context) -> bool:
    """Tell whether tracebacks are wanted: `--debug`, before or behind the command, or RLM_DEBUG."""
    return bool(ctx.meta.get(DEBUG)) or os.environ.get("RLM_DEBUG", "0") not in {"", "0"}
