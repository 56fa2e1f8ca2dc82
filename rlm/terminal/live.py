"""Live views: redrawn in place, written as lines or as JSON documents; and the keyboard during them."""

from __future__ import annotations

import logging
import os
import select
import shutil
import stat
import sys
import termios
import threading
import tty
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, Any, Final, Self, TextIO

import msgspec
from rich.console import Console, Group, RenderableType
from rich.file_proxy import FileProxy
from rich.live import Live
from rich.text import Text

from rlm.admin import report
from rlm.admin.words import clock
from rlm.core.clock import isoformat, system_clock
from rlm.core.documents import RunStatus
from rlm.core.errors import RLMError
from rlm.core.text import LONGEST_LINE, LONGEST_TEXT, cut, safe_line
from rlm.ledger.store import Store
from rlm.terminal.record import picture_of

Document = Any
#: Draws a document in at most this many lines.
Draw = Callable[[Document, int], RenderableType]
#: Returns the part of a document whose change is worth a line.
Changes = Callable[[Document], Hashable]

#: Lines that a picture leaves free: one for the cursor and ^C, and one for the cursor at the end.
_FREE_LINES = 2
#: The keys that end a view.
QUIT = frozenset(b"qQ")
#: Stands for the last state seen while the present state is unknown.
_LOST = object()
#: Seconds for a thread to end: as long as Redis may take to answer.
_END_SECONDS = 6.0


class Output:
    """Shows documents inside a `with` block."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        return

    def show(self, document: Document) -> None:
        """Show a document."""
        raise NotImplementedError

    def trouble(self, why: str) -> None:
        """Show that the present state is unknown, and why."""
        raise NotImplementedError


#: Columns of a picture in a pipe or a file.
PIPE_WIDTH: Final = 120


def console_on(stream: TextIO) -> Console:
    """Return a console on a stream; with COLUMNS=0 it asks the terminal for its width. A pipe is `PIPE_WIDTH` wide."""
    wide = None if stream.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    console = Console(file=stream, highlight=False, width=wide)
    if console.width < 1:
        console.width = shutil.get_terminal_size().columns
    return console


class Drawn(Output):
    """A picture that is redrawn in place; the last one stays, unless it is `transient`."""

    def __init__(self, stream: TextIO, draw: Draw, *, transient: bool = False) -> None:
        self.console = console_on(stream)
        self._live = Live(
            console=self.console, auto_refresh=False, transient=transient, redirect_stdout=False, redirect_stderr=False
        )
        self._draw = draw
        self._last: Document | None = None
        self._seen_at = system_clock.monotonic()

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._live.stop()

    def show(self, document: Document) -> None:
        """Redraw the picture."""
        self._last, self._seen_at = document, system_clock.monotonic()
        self._live.update(Group(self._picture(document), Text()), refresh=True)

    def trouble(self, why: str) -> None:
        """Show above the last picture that it is out of date, and for how long."""
        ago = f"{system_clock.monotonic() - self._seen_at:.0f} s"
        note = Text(f"Out of date for {ago}, trying again: {cut(safe_line(why), LONGEST_TEXT)}", style="bold red")
        note_lines = len(self.console.render_lines(note))
        picture = [self._picture(self._last, note_lines)] if self._last else []
        self._live.update(Group(note, *picture, Text()), refresh=True)

    def _picture(self, document: Document, taken_lines: int = 0) -> RenderableType:
        return self._draw(document, self.console.size.height - _FREE_LINES - taken_lines)


class Lines(Output):
    """Lines without control characters; a new one whenever `changes` differs, by default each time."""

    def __init__(
        self,
        write: Callable[[str], None],
        line: Callable[[Document], str],
        changes: Changes = lambda _document: object(),
    ) -> None:
        self._write = write
        self._line = line
        self._changes = changes
        self._seen: Hashable = None

    def show(self, document: Document) -> None:
        """Write a line if `changes` differs."""
        seen = self._changes(document)
        if seen != self._seen:
            self._tell(self._line(document))
        self._seen = seen

    def trouble(self, why: str) -> None:
        """Write once that the state is unknown, until it is known again."""
        if self._seen is not _LOST:
            self._tell(f"out of date, trying again: {why}")
        self._seen = _LOST

    def _tell(self, text: str) -> None:
        self._write(f"{clock(isoformat(system_clock.now()))}  {cut(safe_line(text), LONGEST_LINE)}")


class JSONLines(Output):
    """One JSON document a line; none while the state is unknown."""

    def __init__(self, write: Callable[[str], None], complain: Callable[[str], None]) -> None:
        self._write = write
        self._complain = complain
        self._lost = False

    def show(self, document: Document) -> None:
        """Write the document."""
        self._write(msgspec.json.encode(document).decode())
        self._lost = False

    def trouble(self, why: str) -> None:
        """Complain once that the state is unknown."""
        if not self._lost:
            self._complain(f"Out of date, trying again: {why}")
        self._lost = True


class Keyboard:
    """The keys typed during a view, if stdin is a terminal; and the reader of its `pipe`, if stdout is one."""

    def __init__(self, file: int | None, pipe: int | None = None) -> None:
        self._file = file
        self._pipe = pipe

    def wait(self, seconds: float) -> bool:
        """Wait for `seconds` or until `q` is typed; return whether it was typed.

        Raises:
            BrokenPipeError: nobody reads the pipe any more; a view with nothing to write would not notice.
        """
        if self._file is None and self._pipe is None:
            system_clock.sleep(seconds)
            return False
        until = system_clock.monotonic() + seconds
        while (left := until - system_clock.monotonic()) > 0:
            watched = select.poll()
            if self._pipe is not None:
                watched.register(self._pipe, 0)  # reports only that its reader is gone
            if self._file is not None:
                watched.register(self._file, select.POLLIN)
            ready = {one for one, _ in watched.poll(left * 1000)}
            if self._pipe in ready:
                raise BrokenPipeError
            if self._file is None or self._file not in ready:
                return False
            typed = b""
            with suppress(OSError):
                typed = os.read(self._file, 1024)
            if not typed:  # the terminal is gone; it would stay ready
                self._file = None
                return False
            if QUIT & set(typed):
                return True
        return False


@contextmanager
def keyboard() -> Iterator[Keyboard]:
    """Read single keys in the block; only in the foreground, because otherwise the shell owns the keyboard."""
    file = _terminal()
    if file is None:
        yield Keyboard(None, _pipe())
        return
    before = termios.tcgetattr(file)
    tty.setcbreak(file)
    try:
        yield Keyboard(file, _pipe())
    finally:
        termios.tcsetattr(file, termios.TCSAFLUSH, before)


def _terminal() -> int | None:
    """Return the descriptor of this process's terminal; None if it has none."""
    try:
        file = sys.stdin.fileno()
        return file if os.isatty(file) and os.tcgetpgrp(file) == os.getpgrp() else None
    except (OSError, ValueError, AttributeError):  # closed, or replaced by something else
        return None


def _pipe() -> int | None:
    """Return the descriptor of stdout if it is a pipe, else None."""
    try:
        file = sys.stdout.fileno()
        return file if stat.S_ISFIFO(os.fstat(file).st_mode) else None
    except (OSError, ValueError, AttributeError):  # as above
        return None


@contextmanager
def progress_aside(store: Store, interval: float) -> Iterator[Drawn]:
    """Draw the open run on stderr every `interval` seconds while the block conducts it; then remove the picture."""
    ended = threading.Event()
    with Drawn(sys.stderr, picture_of, transient=True) as drawn, _logs_above(drawn):
        thread = threading.Thread(target=_draw, args=(store, drawn, interval, ended), name="progress", daemon=True)
        thread.start()
        try:
            yield drawn
        finally:
            ended.set()
            thread.join(_END_SECONDS)


def _draw(store: Store, drawn: Drawn, interval: float, ended: threading.Event) -> None:
    while not ended.wait(interval):
        try:
            found = report.status(store, None, measured=False)
        except RLMError as error:
            drawn.trouble(str(error))
        else:
            if isinstance(found, RunStatus):
                drawn.show(found)


@contextmanager
def _logs_above(drawn: Drawn) -> Iterator[None]:
    """Write this process's log lines above the picture."""
    with ExitStack() as stack:
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr:
                stack.callback(handler.setStream, sys.stderr)
                handler.setStream(FileProxy(drawn.console, sys.stderr))
        yield


@contextmanager
def lines_above(pipe: IO[bytes], drawn: Drawn) -> Iterator[None]:
    """Write the lines of a pipe above the picture during the block."""

    def pump() -> None:
        with suppress(ValueError):  # the pipe was closed
            for line in pipe:
                drawn.console.print(Text(safe_line(line.decode(errors="replace").rstrip())))

    thread = threading.Thread(target=pump, name="lines", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(_END_SECONDS)
        pipe.close()
