"""The progress of a run that this very process conducts: drawn by a thread, on a terminal, log lines above it."""

from __future__ import annotations

import logging
import sys
import threading
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, TYPE_CHECKING

from rich.text import Text

from rlm.admin import report
from rlm.cli.following import picture_of
from rlm.core.errors import RLMError
from rlm.core.text import safe_line
from rlm.terminal import Drawn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.ledger import Store

#: How long the thread may take to end, seconds: as long as Redis may take to answer.
_END_SECONDS = 6.0


@contextmanager
def progress_aside(store: Store, interval: float) -> Iterator[Drawn]:
    """Draw the open run every `interval` seconds on stderr while the block conducts it; gone in the end."""
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
            if found["state"] != report.IDLE:
                drawn.show(found)


@contextmanager
def _logs_above(drawn: Drawn) -> Iterator[None]:
    """Have this process's log lines written above the picture instead of through it."""
    with ExitStack() as stack:
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr:
                stack.callback(handler.setStream, handler.setStream(_Above(drawn)) or sys.stderr)
        yield


class _Above:
    """A stream whose lines stand above a picture; their colours stay."""

    def __init__(self, drawn: Drawn) -> None:
        self._drawn = drawn

    def write(self, text: str) -> None:
        """Write the lines of a record."""
        if text.strip():
            self._drawn.above(Text.from_ansi(text.rstrip()))

    def flush(self) -> None:
        """There is nothing to flush."""


@contextmanager
def lines_above(pipe: IO[bytes], drawn: Drawn) -> Iterator[None]:
    """Write what another process says above the picture, for as long as the block lasts and that process speaks."""

    def pump() -> None:
        with suppress(ValueError):  # closed under it
            for line in pipe:
                drawn.above(Text(safe_line(line.decode(errors="replace").rstrip())))

    thread = threading.Thread(target=pump, name="lines", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(_END_SECONDS)
        pipe.close()
