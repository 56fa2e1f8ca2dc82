"""How a run is shown while it goes on: a live picture on a terminal, a plain line a second anywhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TextIO

from rich.console import Console

from rlm.core.clock import system_clock
from rlm.core.run import MOVES, State
from rlm.sandbox.demo import phrases
from rlm.terminal.live import Drawn
from rlm.terminal.record import RecordPicture
from rlm.terminal.run import RunPicture

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Any, Self

    from rich.console import RenderableType

    from rlm.sandbox.demo.moment import Moment

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
    if not stream.isatty() or Console(file=stream).is_dumb_terminal:
        return PlainView(stream)
    return LiveView(stream, title)


class LiveView:
    """One picture, drawn over again in place; the last one stays, and is that of the record."""

    def __init__(self, stream: TextIO, title: str) -> None:
        self._title = title
        self._drawn = Drawn(stream, self._picture)

    def _picture(self, found: Mapping[str, Any], height: int) -> RenderableType:
        if State(found["state"]) in MOVES:
            return RunPicture(found, height, title=self._title)
        return RecordPicture(found, title=self._title, endpoints=False)  # the summary has those, as the API saw them

    def __enter__(self) -> Self:
        self._drawn.__enter__()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._drawn.__exit__(*_exc)

    def show(self, moment: Moment) -> None:
        """Draw the picture anew."""
        self._drawn.show(moment.found)


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
