"""`rlm status`, drawn once or over and over: which picture or line a document is shown as, and where."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Self

from rlm.admin import report
from rlm.cli.printing import is_terminal, say, show
from rlm.cli.watch import watch
from rlm.core.run import MOVES, State
from rlm.core.text import harmless

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from rich.console import RenderableType

    from rlm.ledger import Store
    from rlm.terminal import Output


def beside(store: Store, found: dict[str, Any]) -> dict[str, Any]:
    """Add to a status what a view shows beside it: the installation, and while no run is open how that stands."""
    if found["state"] == report.IDLE:
        found = report.at_rest(store, found)
    return {**found, **report.looked_at(store)} if found["state"] == report.IDLE or is_open(found) else found


def is_open(found: Mapping[str, Any]) -> bool:
    """Tell whether a document is the status of an open run."""
    return found["state"] != report.IDLE and State(found["state"]) in MOVES


def picture_of(found: Mapping[str, Any], height: int | None = None) -> RenderableType:
    """Draw a status: of an open run, of a finished one, or of none."""
    from rlm.terminal import RecordPicture, RestPicture, RunPicture  # noqa: PLC0415  # only where one draws

    found = harmless(found)
    if found["state"] == report.IDLE:
        return RestPicture(found)
    return RunPicture(found, height) if is_open(found) else RecordPicture(found)


def line_of(found: Mapping[str, Any]) -> str:
    """Write a status in one line."""
    from rlm.terminal.rest import rest_line  # noqa: PLC0415
    from rlm.terminal.words import line, summary  # noqa: PLC0415

    if found["state"] == report.IDLE:
        return rest_line(found)
    return line(found) if is_open(found) else f"run {found['run_id']} {summary(found)}"


def changes(found: Mapping[str, Any]) -> Hashable:
    """Return what makes a line worth writing: where events are, who works or conducts, which endpoints are not well."""
    from rlm.terminal.words import counts_in_all, shut, unconducted  # noqa: PLC0415

    if found["state"] == report.IDLE:
        return found["state"], found["last"]
    if not is_open(found):
        return found["run_id"], found["state"]
    healths = tuple((name, entry["health"]) for name, entry in shut(found).items())
    return (
        found["run_id"],
        found["state"],
        counts_in_all(found),
        found["workers"]["ready"],
        healths,
        unconducted(found),
    )


def show_picture(picture: RenderableType) -> None:
    """Print a picture on stdout."""
    from rlm.terminal.outputs import console_on  # noqa: PLC0415  # only where one draws

    console_on(sys.stdout).print(picture)


def status_output(*, as_json: bool) -> Output:
    """Choose how a status is shown that is looked at over and over: it is the answer, so on stdout."""
    from rlm.terminal import Drawn, JSONLines, Lines  # noqa: PLC0415

    if as_json:
        return JSONLines(show, say)
    return Drawn(sys.stdout, picture_of) if is_terminal() else Lines(show, line_of, changes)


def progress_output() -> Output:
    """Choose how the progress of a run is shown whose record is the answer: on stderr, gone from a terminal then."""
    from rlm.terminal import Drawn, Lines  # noqa: PLC0415

    if is_terminal(err=True):
        return Drawn(sys.stderr, picture_of, transient=True)
    return Lines(say, line_of, changes)


def follow_status(store: Store, run_id: str | None, interval: float, *, as_json: bool) -> None:
    """Show the status over and over, until the run named is closed or a signal comes; then say that the run goes on.

    Raises:
        NoSuchRunError: that run is neither open nor on record.
    """
    seen: dict[str, Any] = {}

    def look() -> dict[str, Any]:
        found = report.status(store, run_id, measured=as_json)
        seen.update(run_id=found["run_id"] if is_open(found) else None)
        return found if as_json else beside(store, found)

    def is_last(found: Mapping[str, Any]) -> bool:
        return run_id is not None and not is_open(found)

    if watch(store, look, _telling_ends(store, status_output(as_json=as_json)), interval, is_last) is None:
        say(detached(seen.get("run_id")))


def detached(run_id: str | None) -> str:
    """Say to somebody who looks no longer what goes on without them."""
    if run_id is None:
        return "This view has ended; RLM goes on. `rlm status` shows how it is."
    return f"Run {run_id} goes on; `rlm status` shows it, `rlm cancel` ends it."


def _telling_ends(store: Store, output: Output) -> Output:
    """Have an output of lines or documents told of each run's end as well, which may lie between two looks."""
    from rlm.terminal import Drawn  # noqa: PLC0415

    if isinstance(output, Drawn):
        return output
    return _Ends(output, store.runs.record)


class _Ends:
    """Shows the record of a run that was open at the last look and is not any more, before what is now."""

    def __init__(self, output: Output, record: Callable[[str], dict[str, Any] | None]) -> None:
        self._output = output
        self._record = record
        self._open: str | None = None

    def __enter__(self) -> Self:
        self._output.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:  # noqa: PYI036  # whatever it is goes on to the output
        self._output.__exit__(*exc)

    def show(self, document: Mapping[str, Any]) -> None:
        """Show a document."""
        now = document["run_id"] if document["state"] != report.IDLE else None
        if self._open is not None and now != self._open and (ended := self._record(self._open)) is not None:
            self._output.show(ended)
        self._open = now if is_open(document) else None
        self._output.show(document)

    def trouble(self, why: str) -> None:
        """Show that nothing is known."""
        self._output.trouble(why)
