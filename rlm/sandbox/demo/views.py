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
from rlm.terminal import Drawn, RecordPicture, RunPicture

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

    from rich.console import RenderableType

    from rlm.ledger import Store


@dataclass(frozen=True, slots=True)
class TypeProgress:
    """How far one type is: events in all, and those settled."""

    name: str
    total: int
    completed: int
    failed: int


@dataclass(frozen=True, slots=True)
class Moment:
    """A run at one moment, by the document `found`: what a line tells of it, in seconds, `busy` by ready worker."""

    found: Mapping[str, Any]
    state: State
    elapsed_seconds: float
    window_seconds: float
    types: tuple[TypeProgress, ...]
    plan: Mapping[str, Any] | None = None
    wanted: int = 0
    threads: int = 0
    busy: tuple[int, ...] = ()

    @property
    def left_seconds(self) -> float:
        """Seconds until the deadline."""
        return max(0.0, self.window_seconds - self.elapsed_seconds)

    @property
    def total(self) -> int:
        """Events of the run."""
        return sum(one.total for one in self.types)

    @property
    def completed(self) -> int:
        """Events completed."""
        return sum(one.completed for one in self.types)


def look(store: Store, run_id: str) -> Moment | None:
    """Look at a run; None when it is not open any more."""
    return moment_of(report.status(store, run_id, measured=False)) if store.runs.is_open(run_id) else None


def moment_of(found: Mapping[str, Any]) -> Moment:
    """Return the moment that a status document or a record tells of."""
    state, workers = State(found["state"]), found["workers"]
    left = found.get("seconds_left")
    return Moment(
        found=found,
        state=state,
        elapsed_seconds=found["duration_seconds"] if left is None else found["window_seconds"] - left,
        window_seconds=found["window_seconds"],
        types=tuple(_type_progress(name, entry) for name, entry in found["by_type"].items()),
        plan=None if state in {State.DRAINING, State.PLANNING} else found["plan"],
        wanted=workers.get("wanted", 0),
        threads=found["plan"]["threads"],
        busy=tuple(one["busy"] for one in workers.get("each", ()) if one["state"] == WorkerState.READY),
    )


def _type_progress(name: str, entry: Mapping[str, Any]) -> TypeProgress:
    return TypeProgress(name, entry["taken"] + entry["carried_over"], entry["completed"], entry["failed"])


def spare_time(moment: Moment) -> str:
    """Write the countdown, or once the run is over what it took."""
    if moment.state in MOVES:
        return f"{moment.left_seconds:.1f} s left"
    return f"{moment.elapsed_seconds:.1f} s of {moment.window_seconds:g} s"


def plan_line(planned: Mapping[str, Any]) -> str:
    """Write what a plan promises."""
    left = f"{planned['expected_leftover']:,}" if planned["expected_leftover"] else "nothing"
    return (
        f"{counted(planned['workers'], 'worker')} of {counted(planned['threads'], 'lane')}, done "
        f"{planned['forecast_seconds']:.1f} s after the first call, {left} left over"
    )


def workers_line(moment: Moment) -> str:
    """Write who works: workers ready of those wanted, lanes busy of those there are."""
    if moment.state not in MOVES:
        return "workers no longer needed"
    if not moment.wanted and not moment.busy:
        return "no worker wanted yet"
    lanes = len(moment.busy) * moment.threads
    return f"{len(moment.busy)} of {moment.wanted} workers ready, {sum(moment.busy)} of {lanes} lanes busy"


def moment_line(moment: Moment) -> str:
    """Write a moment in one line, for where there is no terminal."""
    start = f"{moment.elapsed_seconds:5.1f} s  {moment.state}"
    if moment.state in {State.DRAINING, State.PLANNING}:
        return f"{start}: {counted(moment.total, 'event')} taken so far"
    done = f"{start}: {moment.completed:,} of {moment.total:,} completed"
    return f"{done}; {workers_line(moment)}; {spare_time(moment)}" if moment.state in MOVES else done


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
            self._write(f"{moment.elapsed_seconds:5.1f} s  planned: {plan_line(moment.plan)}")
        self._state, self._written_at = moment.state, now
        self._write(moment_line(moment))

    def _write(self, text: str) -> None:
        print(text, file=self._stream, flush=True)
