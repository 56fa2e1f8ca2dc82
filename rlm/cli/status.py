"""How runs are shown: a status or a record once, or a status over and over."""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from rlm.admin import report
from rlm.cli.common import ExitCode
from rlm.cli.printing import is_terminal, print_json, say, say_error, sentence, show, show_words, table, wants_json
from rlm.core.errors import StoreError
from rlm.core.run import State
from rlm.core.tally import every_call_failed, in_words
from rlm.core.text import counted, safe, span
from rlm.core.window import WELL
from rlm.terminal.live import Drawn, JSONLines, Lines, Output, console_on, keyboard
from rlm.terminal.record import changes, line_of, picture_of, rest_rows
from rlm.terminal.words import call_troubles, forecast, is_open, troubles, unconducted
from rlm.terminal.words import workers as team

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

    from rich.console import RenderableType

    from rlm.ledger import Store
    from rlm.terminal.live import Changes, Document, Draw

#: The signals that end a view.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def show_record(found: dict[str, Any]) -> None:
    """Print a record as JSON, as a picture on a terminal, else as text."""
    print_json(found)
    if is_terminal() and not wants_json():
        show_picture(picture_of(found))
    else:
        describe(found)


def tell(record: dict[str, Any], *, waited: bool = False) -> None:
    """Print a record; end the command with an error if the run failed, or if it `waited` and every call failed.

    Raises:
        SystemExit: the run failed.
    """
    show_record(record)
    if waited and every_call_failed(record):
        say_error(f"every call of run {record['run_id']} failed: {in_words(record.get('troubles', ()))}")
        raise SystemExit(int(ExitCode.FAILED))
    if record["state"] == State.FAILED:
        say_error(f"run {record['run_id']} failed: {record['failure']}")
        raise SystemExit(int(ExitCode.FAILED))


def describe(found: dict[str, Any]) -> None:
    """Print a run, open or finished, as text."""
    took = f"{span(found['duration_seconds'])}"
    left = f", {span(found['seconds_left'])} left" if "seconds_left" in found else f" after {took}"
    show_words(f"Run {found['run_id']} ({found['trigger']}): {found['state']}{left}")
    if why := unconducted(found):
        show_words(sentence(why))
    _describe_plan(found)
    _describe_types(found)
    _describe_calls(found)


def _describe_plan(found: dict[str, Any]) -> None:
    plan, workers, counts = found["plan"], found["workers"], found["counts"]
    done = (
        f"done {plan['forecast_seconds']:.1f} s after the first call (with the most workers no schedule could before "
        f"{plan['lower_bound_seconds']:.1f} s)"
    )
    show_words(f"Planned: {done if plan['forecast_seconds'] else 'no call'}, {plan['expected_leftover']} left over")
    if "forecast" in found:
        now = found["forecast"]
        expected = forecast(found).words
        show_words(f"By now: {expected}, with {counted(now['workers'], 'worker')}. {sentence(now['binds'])}")
    for one in call_troubles(found) if "seconds_left" in found else troubles(found):
        show_words(sentence(one))
    show_words(
        f"Workers: {plan['workers']} planned, of {plan['threads']} lanes each; {workers['peak']} at the most, "
        f"{workers['restarted']} replaced"
    )
    if workers.get("other_configuration"):
        show_words(f"By now {team(found)}.")
    show_words(f"Intake: {counts['invalid']} invalid, {counted(counts['duplicates'], 'duplicate')}")


def _describe_types(found: dict[str, Any]) -> None:
    columns = ["taken", "carried_over", "completed", "failed", "leftover"]
    headings = ["still to do" if name == "leftover" and "seconds_left" in found else name for name in columns]
    rows = [[name, *(str(entry[key]) for key in columns)] for name, entry in found["by_type"].items()]
    show()
    table(["type", *headings], [*rows, ["in all", *(str(found["counts"][key]) for key in columns)]])


def _describe_calls(found: dict[str, Any]) -> None:
    called = ["calls", "completed", "throttled", "errors", "peak_in_window", "limit"]
    by_budget = found.get("by_budget", {})
    _table_by("endpoint", found["by_endpoint"], [*called, "p50_ms", "p95_ms"])
    if by_budget:
        _table_by("budget", by_budget, called)
    resting = [
        f"{name} is {entry['health']}"
        for name, entry in [*found["by_endpoint"].items(), *by_budget.items()]
        if entry.get("health", "ok") not in WELL
    ]
    if resting:
        show()
        show_words(f"{', '.join(resting)}: see `rlm endpoint list`")


def describe_rest(found: dict[str, Any]) -> None:
    """Print the state between two runs as text."""
    show_words("No run is open.")
    for name, told in rest_rows(found):
        show(f"{name:<12}  {told.plain}")


def _table_by(what: str, entries: dict[str, dict[str, Any]], keys: list[str]) -> None:
    show()
    table([what, *keys], [[name, *(str(entry[key]) for key in keys)] for name, entry in entries.items()])


def beside(store: Store, found: dict[str, Any]) -> dict[str, Any]:
    """Add what a view shows beside a status: the installation, and the state between runs if none is open."""
    if found["state"] == report.IDLE:
        found = report.at_rest(store, found)
    return {**found, **report.looked_at(store)} if found["state"] == report.IDLE or is_open(found) else found


def show_picture(picture: RenderableType) -> None:
    """Print a picture on stdout."""
    console_on(sys.stdout).print(picture)


def output_of(draw: Draw, line: Callable[[Document], str], *more: Changes) -> Output:
    """Return the output of a view on stdout: JSON documents, on a terminal a picture, else lines."""
    if wants_json():
        return JSONLines(lambda text: click.echo(safe(text)), say)
    return Drawn(sys.stdout, draw) if is_terminal() else Lines(show, line, *more)


def follow_status(store: Store, run_id: str | None, interval: float) -> None:
    """Show the status until the named run is closed or a signal comes; then print that the run goes on.

    Raises:
        NoSuchRunError: that run is neither open nor on record.
    """
    output = output_of(picture_of, line_of, changes)
    open_run: str | None = None

    def look() -> dict[str, Any]:
        nonlocal open_run
        found = report.status(store, run_id, measured=wants_json())
        now = None if found["state"] == report.IDLE else found["run_id"]
        if open_run not in {None, now} and not isinstance(output, Drawn) and (ended := store.runs.record(open_run)):
            output.show(ended)  # lines and documents have each run's end, even if it lies between two looks
        open_run = now if is_open(found) else None
        return found if wants_json() else beside(store, found)

    def is_last(found: Mapping[str, Any]) -> bool:
        return run_id is not None and not is_open(found)

    if watch(store, look, output, interval, is_last) is None:
        say(detached(open_run))


def detached(run_id: str | None) -> str:
    """Return the message for the end of a view: the run goes on."""
    if run_id is None:
        return "This view has ended; RLM goes on. `rlm status` shows how it is."
    return f"Run {run_id} goes on; `rlm status` shows it, `rlm cancel` ends it."


class Detached(BaseException):
    """Raised by a signal that ends a view; a BaseException, so that no error handler catches it."""


def watch(
    store: Store,
    look: Callable[[], dict[str, Any]],
    output: Output,
    interval: float,
    is_last: Callable[[dict[str, Any]], bool] = lambda _document: False,
) -> dict[str, Any] | None:
    """Show what `look` returns every `interval` seconds; return the last document, None after a signal or `q`.

    If Redis goes away, the view shows that and goes on when it is back.
    """
    try:
        with detachable(), keyboard() as typed, output:
            while True:
                document = look_once(store, look, output)
                if document is not None:
                    output.show(document)
                if document is not None and is_last(document):
                    return document
                if typed.wait(interval):
                    return None
    except Detached:
        return None


def look_once(store: Store, look: Callable[[], dict[str, Any]], output: Output) -> dict[str, Any] | None:
    """Return what `look` returns; if Redis does not answer, show that and return None."""
    try:
        return look()
    except StoreError as error:
        output.trouble(str(error))
        with suppress(StoreError):  # shown in the next round, if it lasts
            store.revive()
        return None


@contextmanager
def detachable() -> Iterator[None]:
    """Make the first Ctrl-C, TERM or HUP raise `Detached` in the block, even while it waits for Redis."""
    seen = False

    def detach(_signum: int, _frame: FrameType | None) -> None:
        nonlocal seen
        if seen:  # clean-up must not be interrupted
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
