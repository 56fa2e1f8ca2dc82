"""How a run is shown while it goes on: a live picture on a terminal, a plain line a second anywhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TextIO

from rich.console import Console
from rich.live import Live

from rlm.clock import system_clock
from rlm.demo import phrases
from rlm.demo.screen import WIDEST, picture
from rlm.run import State

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from rlm.demo.moment import Moment

#: A plain view writes a line this often at the most, and this many in a window, seconds and lines.
LINE_SECONDS = 1.0
LINES_A_WINDOW = 60


class View(Protocol):
    """Shows moments of a run, from entering it to leaving it."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def show(self, moment: Moment) -> None:
        """Show how a run stands."""
        ...


def view_on(stream: TextIO, title: str) -> View:
    """Choose the view that suits `stream`."""
    console = Console(file=stream, highlight=False)
    if not stream.isatty() or console.is_dumb_terminal:
        return PlainView(stream)
    console.width = min(console.width, WIDEST)
    return LiveView(console, title)


class LiveView:
    """One picture, drawn over again in place; the last one stays."""

    def __init__(self, console: Console, title: str) -> None:
        self._live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self._title = title

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._live.stop()

    def show(self, moment: Moment) -> None:
        """Draw the picture anew."""
        self._live.update(picture(moment, self._title), refresh=True)


class PlainView:
    """Lines without any control character: one a second, and one whenever the run is in another state."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._state: State | None = None
        self._written_at = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stream.flush()

    def show(self, moment: Moment) -> None:
        """Write a line, if it is time for one."""
        now = system_clock.monotonic()
        if moment.state is self._state:
            pause = max(LINE_SECONDS, moment.window_seconds / LINES_A_WINDOW)
            if now - self._written_at < pause:
                return
        elif moment.plan and moment.state is State.RUNNING:
            self._write(f"{moment.elapsed_seconds:5.1f} s  planned: {phrases.plan(moment.plan)}")
        self._state, self._written_at = moment.state, now
        self._write(phrases.line(moment))

    def _write(self, text: str) -> None:
        print(text, file=self._stream, flush=True)
