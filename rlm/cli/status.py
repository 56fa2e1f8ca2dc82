"""Shows runs: a status or a record once, or a status repeatedly.

Modules that draw are imported only for a picture: programs and pipes get none.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from rlm.admin import report
from rlm.cli.common import ExitCode
from rlm.cli.printing import is_terminal, print_json, say, say_error, show, wants_json
from rlm.core.documents import IdleStatus, Record, RunStatus, View
from rlm.core.errors import StoreError
from rlm.core.run import State
from rlm.core.tally import every_call_failed, in_words
from rlm.core.text import safe

if TYPE_CHECKING:
    from rlm.ledger.store import Store
    from rlm.terminal.live import Changes, Document, Draw, Output

T = TypeVar("T")

#: The signals that end a view.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def show_run(found: Any) -> None:
    """Print a status or record: as JSON, or as a picture, which is plain text in a pipe."""
    print_json(found)
    if not wants_json():
        from rlm.terminal.live import console_on
        from rlm.terminal.record import picture_of

        console_on(sys.stdout).print(picture_of(found))


def tell(record: Record, *, waited: bool = False) -> None:
    """Print a record; raise SystemExit if the run failed, or if it `waited` and every call of it failed."""
    show_run(record)
    if waited and every_call_failed(record):
        say_error(f"every call of run {record.run_id} failed: {in_words(record.troubles)}")
    elif record.state == State.FAILED:
        say_error(f"run {record.run_id} failed: {record.failure}")
    else:
        return
    raise SystemExit(int(ExitCode.FAILED))


def beside(store: Store, found: Record | RunStatus | IdleStatus) -> Any:
    """Add what people see beside a status between two runs, and programs do not."""
    return report.at_rest(store, found) if isinstance(found, IdleStatus) and not wants_json() else found


def output_of(draw: Draw, line: Callable[[Document], str], *more: Changes) -> Output:
    """Return the output of a view on stdout: JSON documents, on a terminal a picture, else lines."""
    from rlm.terminal.live import Drawn, JSONLines, Lines

    if wants_json():
        return JSONLines(lambda text: click.echo(safe(text)), say)
    return Drawn(sys.stdout, draw) if is_terminal() else Lines(show, line, *more)


def follow_status(store: Store, run_id: str | None, interval: float) -> None:
    """Show the status until the named run is closed or a signal comes; raise NoSuchRunError for an unknown run."""
    from rlm.terminal.live import Drawn
    from rlm.terminal.record import changes, line_of, picture_of

    output = output_of(picture_of, line_of, changes)
    open_run: str | None = None

    def look() -> View:
        nonlocal open_run
        found = report.status(store, run_id, measured=wants_json())
        now = None if isinstance(found, IdleStatus) else found.run_id
        if open_run not in {None, now} and not isinstance(output, Drawn) and (ended := store.runs.record(open_run)):
            output.show(ended)  # lines and documents show every run's end, even between two looks
        open_run = now if isinstance(found, RunStatus) else None
        return cast("View", beside(store, found))

    def is_last(found: View) -> bool:
        return run_id is not None and not isinstance(found, RunStatus)

    if watch(look, output, interval, is_last) is None:
        say(detached(open_run))


def detached(run_id: str | None) -> str:
    """Return the message at the end of a view: the run continues."""
    if run_id is None:
        return "This view has ended; RLM goes on. `rlm status` shows how it is."
    return f"Run {run_id} goes on; `rlm status` shows it, `rlm cancel` ends it."


class Detached(BaseException):
    """Raised by a signal that ends a view; a BaseException, so that no error handler catches it."""


def watch(
    look: Callable[[], T],
    output: Output,
    interval: float,
    is_last: Callable[[T], bool] = lambda _document: False,
) -> T | None:
    """Show the result of `look` every `interval` seconds; return the last one, None after a signal or `q`."""
    from rlm.terminal.live import keyboard

    try:
        with detachable(), keyboard() as typed, output:
            while True:
                document = look_once(look, output)
                if document is not None:
                    output.show(document)
                if document is not None and is_last(document):
                    return document
                if typed.wait(interval):
                    return None
    except Detached:
        return None


def look_once(look: Callable[[], T], output: Output) -> T | None:
    """Return the result of `look`; if Redis does not answer, show that and return None."""
    try:
        return look()
    except StoreError as error:
        output.trouble(str(error))
        return None


@contextmanager
def detachable() -> Iterator[None]:
    """Make the first Ctrl-C, TERM or HUP raise `Detached` in the block, even while it waits for Redis."""
    seen = False

    def detach(_signum: int, _frame: FrameType | None) -> None:
        nonlocal seen
        if seen:  # do not interrupt the clean-up
            return
        seen = True
        raise Detached

    heard = [one for one in _SIGNALS if signal.getsignal(one) is not signal.SIG_IGN]  # nohup ignores HUP
    previous = {one: signal.signal(one, detach) for one in heard}
    try:
        yield
    finally:
        for one, handler in previous.items():
            signal.signal(one, handler)
