"""Shows runs: a status or a record once, or a status repeatedly.

Modules that draw are imported only for a picture: programs and pipes get none.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import click
import msgspec

from rlm.admin import report
from rlm.admin.attendance import lacking
from rlm.admin.hosts import hosts_unwell
from rlm.admin.unwell import endpoints_unwell, shut
from rlm.admin.verdict import call_troubles, troubles
from rlm.admin.words import forecast, halted, is_open, is_planned, left_of, to_take
from rlm.admin.words import workers as workers_now
from rlm.cli.common import ExitCode
from rlm.cli.printing import is_terminal, print_json, say, say_error, show, show_words, table, wants_json
from rlm.core.documents import Record, plain
from rlm.core.errors import StoreError
from rlm.core.run import State
from rlm.core.tally import every_call_failed, in_words
from rlm.core.text import counted, safe, sentence, span

if TYPE_CHECKING:
    from rlm.ledger import Store
    from rlm.terminal.live import Changes, Document, Draw, Output

#: The signals that end a view.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def show_run(found: dict[str, Any]) -> None:
    """Print a status or record: as JSON, as a picture on a terminal, else as text."""
    print_json(found)
    if wants_json():
        return
    if is_terminal():
        from rlm.terminal.live import console_on
        from rlm.terminal.record import picture_of

        console_on(sys.stdout).print(picture_of(found))
    elif found["state"] == report.IDLE:
        from rlm.terminal.record import rest_rows

        show_words("No run is open.")
        for name, told in rest_rows(found):
            show(f"{name:<12}  {told.plain}")
    else:
        describe(found)


def tell(record: dict[str, Any], *, waited: bool = False) -> None:
    """Print a record; raise SystemExit if the run failed, or if it `waited` and every call of it failed."""
    show_run(record)
    if waited and every_call_failed(read := msgspec.convert(record, Record)):
        say_error(f"every call of run {record['run_id']} failed: {in_words(read.troubles)}")
    elif record["state"] == State.FAILED:
        say_error(f"run {record['run_id']} failed: {record['failure']}")
    else:
        return
    raise SystemExit(int(ExitCode.FAILED))


def describe(found: dict[str, Any]) -> None:
    """Print a run, open or finished, as text."""
    left = found.get("seconds_left")
    ends = f" after {span(found['duration_seconds'])}" if left is None else f", {left_of(found)}"
    show_words(f"Run {found['run_id']} ({found['trigger']}): {found['state']}{ends}")
    if why := halted(found):
        show_words(sentence(why))
    _describe_plan(found)
    for one in troubles(found) if left is None else call_troubles(found):
        show_words(sentence(one))
    _describe_workers(found)
    for one in hosts_unwell(found):
        show_words(sentence(one))
    columns = ["taken", "carried_over", "completed", "failed", "leftover"]
    headings = [*columns[:-1], columns[-1] if left is None else "still to do"]
    rows = {**found["by_type"], "in all": found["counts"]}.items()
    show()
    table(["type", *headings], [[name, *(entry[key] for key in columns)] for name, entry in rows])
    _describe_calls(found)


def _describe_plan(found: dict[str, Any]) -> None:
    plan, now = found["plan"], found.get("forecast")
    if is_planned(found):
        bound = f"even with the most workers not before {plan['lower_bound_seconds']:.1f} s"
        done = f"done {plan['forecast_seconds']:.1f} s after the first call ({bound})"
        show_words(f"Planned: {done if plan['forecast_seconds'] else 'no call'}, {plan['expected_leftover']} left over")
    if why := lacking(found):
        show_words(f"By now: {forecast(found).words}. {sentence(why)}")
    elif now is not None:
        team = counted(now["workers"], "worker")
        with_whom = "." if halted(found) else f", with {team}. {sentence(now['binds'])}"
        show_words(f"By now: {forecast(found).words}{with_whom}")


def _describe_workers(found: dict[str, Any]) -> None:
    plan, workers, counts = found["plan"], found["workers"], found["counts"]
    planned = f"{'not yet' if is_open(found) else 'never'} planned"
    if is_planned(found):
        planned = f"{plan['workers']} planned, of {plan['threads']} lanes each"
    show_words(f"Workers: {planned}; {workers['peak']} at the most, {workers['restarted']} replaced")
    if workers.get("other_configuration"):
        show_words(f"By now {workers_now(found)}.")
    intake = [f"{counts['invalid']} invalid", counted(counts["duplicates"], "duplicate"), *to_take(found)]
    show_words(f"Intake: {', '.join(intake)}")


def _describe_calls(found: dict[str, Any]) -> None:
    called = ["calls", "completed", "throttled", "errors", "peak_in_window", "limit"]
    tables = [("endpoint", found["by_endpoint"], [*called, "p50_ms", "p95_ms"])]
    tables += [("budget", found["by_budget"], called)] if found.get("by_budget") else []
    for what, entries, keys in tables:
        show()
        table([what, *keys], [[name, *(entry[key] for key in keys)] for name, entry in entries.items()])
    if unwell := endpoints_unwell(found, shut(found)):
        show()
        show_words(f"{'; '.join(unwell)}: see `rlm endpoint list`")


def beside(store: Store, found: dict[str, Any]) -> dict[str, Any]:
    """Add what people see beside a status, and programs do not."""
    return found if wants_json() else report.beside(store, found)


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

    def look() -> dict[str, Any]:
        nonlocal open_run
        found = plain(report.status(store, run_id, measured=wants_json()))
        now = None if found["state"] == report.IDLE else found["run_id"]
        if open_run not in {None, now} and not isinstance(output, Drawn) and (ended := store.runs.record(open_run)):
            output.show(plain(ended))  # lines and documents show every run's end, even between two looks
        open_run = now if is_open(found) else None
        return beside(store, found)

    def is_last(found: Mapping[str, Any]) -> bool:
        return run_id is not None and not is_open(found)

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
    look: Callable[[], dict[str, Any]],
    output: Output,
    interval: float,
    is_last: Callable[[dict[str, Any]], bool] = lambda _document: False,
) -> dict[str, Any] | None:
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


def look_once(look: Callable[[], dict[str, Any]], output: Output) -> dict[str, Any] | None:
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
