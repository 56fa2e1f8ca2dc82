"""How a run is shown while it goes on: a live picture on a terminal, one plain line per second elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from rich.console import Console

from rlm.admin import report
from rlm.core.clock import system_clock
from rlm.core.run import MOVES, State
from rlm.core.text import counted
from rlm.ledger.processes import WorkerState
from rlm.terminal.live import Drawn
from rlm.terminal.record import record_picture
from rlm.terminal.run import run_picture

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

    from rich.console import RenderableType

    from rlm.ledger import Store


#: A plain view writes at most one line in this time, seconds, and this many in a window.
LINE_SECONDS = 1.0
LINES_A_WINDOW = 60


@dataclass(frozen=True, slots=True)
class Moment:
    """A run at one moment: its document `found`, and what a line needs of it. `busy` lanes by ready worker."""

    found: Mapping[str, Any]
    state: State
    elapsed_seconds: float
    window_seconds: float
    total: int
    completed: int
    plan: Mapping[str, Any] | None = None
    wanted: int = 0
    threads: int = 0
    busy: tuple[int, ...] = ()

    @property
    def left_seconds(self) -> float:
        """Seconds until the deadline."""
        return max(0.0, self.window_seconds - self.elapsed_seconds)


def look(store: Store, run_id: str) -> Moment | None:
    """Return how a run stands, None if it is not open any more."""
    return moment_of(report.status(store, run_id, measured=False)) if store.runs.is_open(run_id) else None


def moment_of(found: Mapping[str, Any]) -> Moment:
    """Return the moment that a status document or a record describes."""
    state, workers = State(found["state"]), found["workers"]
    left = found.get("seconds_left")
    return Moment(
        found=found,
        state=state,
        elapsed_seconds=found["duration_seconds"] if left is None else found["window_seconds"] - left,
        window_seconds=found["window_seconds"],
        total=sum(one["taken"] + one["carried_over"] for one in found["by_type"].values()),
        completed=sum(one["completed"] for one in found["by_type"].values()),
        plan=None if state in {State.DRAINING, State.PLANNING} else found["plan"],
        wanted=workers.get("wanted", 0),
        threads=found["plan"]["threads"],
        busy=tuple(one["busy"] for one in workers.get("each", ()) if one["state"] == WorkerState.READY),
    )


def _spare_time(moment: Moment) -> str:
    """Return the countdown, or the duration of a run that is over."""
    if moment.state in MOVES:
        return f"{moment.left_seconds:.1f} s left"
    return f"{moment.elapsed_seconds:.1f} s of {moment.window_seconds:g} s"


def _plan_line(planned: Mapping[str, Any]) -> str:
    """Return what a plan promises, in words."""
    left = f"{planned['expected_leftover']:,}" if planned["expected_leftover"] else "nothing"
    return (
        f"{counted(planned['workers'], 'worker')} of {counted(planned['threads'], 'lane')}, done "
        f"{planned['forecast_seconds']:.1f} s after the first call, {left} left over"
    )


def _workers_line(moment: Moment) -> str:
    """Return the workers that are ready of those wanted, and the lanes that are busy, in words."""
    if moment.state not in MOVES:
        return "workers no longer needed"
    if not moment.wanted and not moment.busy:
        return "no worker wanted yet"
    lanes = len(moment.busy) * moment.threads
    return f"{len(moment.busy)} of {moment.wanted} workers ready, {sum(moment.busy)} of {lanes} lanes busy"


def _moment_line(moment: Moment) -> str:
    """Return a moment as one line of text."""
    start = f"{moment.elapsed_seconds:5.1f} s  {moment.state}"
    if moment.state in {State.DRAINING, State.PLANNING}:
        return f"{start}: {counted(moment.total, 'event')} taken so far"
    done = f"{start}: {moment.completed:,} of {moment.total:,} completed"
    return f"{done}; {_workers_line(moment)}; {_spare_time(moment)}" if moment.state in MOVES else done


class View(Protocol):
    """Shows moments of a run, while it is entered."""

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
    """One picture that is redrawn in place; the last one, of the record, stays."""

    def __init__(self, stream: TextIO, title: str) -> None:
        self._title = title
        self._drawn = Drawn(stream, self._picture)

    def _picture(self, found: Mapping[str, Any], height: int) -> RenderableType:
        if State(found["state"]) in MOVES:
            return run_picture(found, height, title=self._title)
        return record_picture(found, title=self._title, endpoints=False)  # the summary has those, as the API saw them

    def __enter__(self) -> Self:
        self._drawn.__enter__()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._drawn.__exit__(*_exc)

    def show(self, moment: Moment) -> None:
        """Draw the picture anew."""
        self._drawn.show(moment.found)


class PlainView:
    """Lines without control characters: one a second, and one whenever the state of the run changes."""

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
            self._write(f"{moment.elapsed_seconds:5.1f} s  planned: {_plan_line(moment.plan)}")
        self._state, self._written_at = moment.state, now
        self._write(_moment_line(moment))

    def _write(self, text: str) -> None:
        print(text, file=self._stream, flush=True)
