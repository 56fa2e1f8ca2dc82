"""Plays a demo: pushes items, starts processes, requests one run, shows it until it is on record, and judges it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import partial
from random import Random
from textwrap import wrap
from typing import TextIO

import msgspec
from rich.console import Console, RenderableType

from rlm.admin import report, words
from rlm.core.clock import isoformat, system_clock
from rlm.core.documents import Record, RunStatus
from rlm.core.endpoint import EventType
from rlm.core.text import counted, sentence
from rlm.sandbox.judge import DemoVerdict, Evidence, judge_demo
from rlm.sandbox.mockapi import EndpointSummary
from rlm.sandbox.stage import Stage
from rlm.settings import Settings
from rlm.terminal.live import Drawn, Lines, Output
from rlm.terminal.record import line_of, record_picture
from rlm.terminal.run import run_picture

#: Seconds between two looks at the run: four pictures a second.
FRAME_SECONDS = 0.25
#: A plain view writes at most one line in so many seconds, and about so many lines in a window.
LINE_SECONDS = 1.0
LINES_A_WINDOW = 60
#: Items to push in one command.
PUSH_ITEMS = 500
#: Possible numbers of event types of an item, and their weights.
SIZES = (1, 2, 3)
SIZE_WEIGHTS = (6, 3, 1)


def play(
    stage: Stage, view: Output, events: int, speed: float, *, linger: Callable[[], object] | None = None
) -> DemoVerdict:
    """Show one run of `events` events, stop the processes, and judge the result.

    With `linger`, which is called after the run, everything continues until a signal, so that the dashboard can be
    viewed. Raise RunError if a process ends or makes no progress, or at a signal, and StoreError if the server is gone.
    """
    store = stage.store
    items = make_items(events, [one.name for one in stage.settings.event_types], Random(), system_clock.now())
    for start in range(0, len(items), PUSH_ITEMS):  # before any process can take some of them
        store.intake.push(items[start : start + PUSH_ITEMS])
    stage.start_processes()
    with view:
        run_id = stage.start_run()

        def look() -> None:
            if store.runs.is_open(run_id):
                view.show(report.status(store, run_id, measured=False))

        record = stage.await_record(run_id, look, FRAME_SECONDS)
        view.show(record)
    if linger:
        linger()
        stage.await_signal()
    stage.stop()
    return judge_demo(Evidence.of(stage, record), events=events, items=len(items), speed=speed)


def make_items(events: int, types: Sequence[str], random: Random, now: float) -> list[bytes]:
    """Return shuffled JSON items with `events` events in all, equally many of each type (give or take one).

    Every item has its own wallet; `now` is their timestamp, in seconds since 1970.
    """
    groups = list(_groups(events, types, random))
    random.shuffle(groups)
    return [
        msgspec.json.encode(
            {
                "id": f"{round(now * 1000) + number}-{random.getrandbits(36):09x}",
                "wallet_name": f"wallet_{number:05d}",
                "events": names,
                "worker_id": str(number % 4 + 1),
                "timestamp": isoformat(now),
                "retry_count": 0,
            }
        )
        for number, names in enumerate(groups, start=1)
    ]


def _groups(events: int, types: Sequence[str], random: Random) -> Iterator[list[str]]:
    """Yield the types of each item: every type once per round, and each round is cut into items."""
    for dealt in range(0, events, len(types)):
        names = random.sample(types, len(types))[: events - dealt]
        while names:
            (size,) = random.choices(SIZES, SIZE_WEIGHTS)
            yield names[:size]
            names = names[size:]


def view_on(stream: TextIO, title: str) -> Output:
    """Return the view that suits `stream`: a picture redrawn in place, whose last state remains, or plain lines."""
    if not stream.isatty() or Console(file=stream).is_dumb_terminal:
        return Lines(partial(print, file=stream, flush=True), line_of, _when)

    def picture(found: RunStatus | Record, height: int) -> RenderableType:
        if isinstance(found, RunStatus):
            return run_picture(found, height, title=title)
        return record_picture(found, title=title, endpoints=False)  # the summary has them, as the API saw them

    return Drawn(stream, picture)


def _when(found: RunStatus | Record) -> Hashable:
    """Return a value that changes when a line is due: the state, or the number of pauses passed."""
    pause = max(LINE_SECONDS, found.window_seconds / LINES_A_WINDOW)
    return found.state, found.seconds_left // pause if isinstance(found, RunStatus) else 0


def prologue(settings: Settings, events: int, speed: float) -> list[str]:
    """Return an introduction to the demo, in words."""
    types, endpoints = len(settings.event_types), len(settings.endpoints)
    window = settings.run.window_seconds
    lines = [
        f"RLM demo: {counted(events, 'event')} of {counted(types, 'type')}, a server, a scheduler, a supervisor,",
        f"and an API of {counted(endpoints, 'endpoint')} that refuses every call above its limit.",
    ]
    if speed != 1:
        lines.append(f"All times are divided by {speed:g}: a window of {window / speed:g} s stands for {window:g} s.")
    lines.append("The run is started on request, as by `rlm start`, not to wait for a tick.")
    return [*lines, "Starting the server, a scheduler, a supervisor and a first worker...", ""]


def summary(verdict: DemoVerdict, types: Sequence[EventType]) -> list[str]:
    """Return the result, the comparison with the forecast, and the API's view by type."""
    return [
        *_outcome(verdict),
        *_forecast(verdict),
        "",
        *_by_type(verdict.evidence.api, types),
        "",
        *([*seen_table("budget", verdict.evidence.budgets), ""] if verdict.evidence.budgets else []),
        *_api(verdict),
        *(f"NOT AS PROMISED: {one}." for one in verdict.broken),
        "",
    ]


def _outcome(verdict: DemoVerdict) -> Iterator[str]:
    record, counts = verdict.evidence.record, verdict.evidence.record.counts
    yield f"{counted(counts.taken, 'event')} in {counted(verdict.items, 'item')} were taken off the audit list."
    yield f"The run ended {words.summary(record)}."
    if counts.leftover:
        for one in record.why:
            yield from wrap(sentence(one.sentence), 80)
        yield "Nothing is lost: what is left over stays in the ledger,"
        yield "and the next run would take it first."


def _forecast(verdict: DemoVerdict) -> Iterator[str]:
    planned, workers = verdict.evidence.record.plan, verdict.evidence.record.workers
    if verdict.answered_seconds is None:
        yield "No call was answered."
        return
    forecast, late = planned.forecast_seconds, verdict.late_seconds
    share = f" ({abs(late) / forecast:.1%})" if forecast else ""
    yield f"Forecast: {forecast:.1f} s from the first call to the last answer."
    yield f"Outcome: {verdict.answered_seconds:.1f} s, {abs(late):.2f} s{share} {'more' if late > 0 else 'less'}."
    if expected := planned.expected_leftover:
        yield f"Left over: {expected:,} expected, {verdict.evidence.record.counts.leftover:,} in fact."
    yield (
        f"{counted(planned.workers, 'worker')} of {counted(planned.threads, 'lane')} were planned for it, "
        f"{workers.peak} worked; {workers.restarted} had to be replaced."
    )


def _api(verdict: DemoVerdict) -> Iterator[str]:
    calls = sum(one.calls for one in verdict.evidence.api.values())
    if refused := verdict.evidence.refused:
        yield f"The API refused {counted(refused, 'call')} of {calls:,}."
    else:
        yield f"The API refused nothing: {counted(calls, 'call')}, by its own count no peak above the limit."
    if verdict.doubled:
        yield f"{counted(verdict.doubled, 'event')} came more than once, with the same Idempotency-Key."
    else:
        yield "No event came twice."


def _by_type(api: Mapping[str, EndpointSummary], types: Sequence[EventType]) -> list[str]:
    """Return a table of the API's view by type, with the highest peak of its endpoints."""
    rows = [["seen by the API", "endpoints", "calls", "refused", "peak", "limit"]]
    for kind in types:
        seen = [api[one.name] for one in kind.endpoints]
        calls, refused = sum(one.calls for one in seen), sum(one.refused for one in seen)
        peak = max(one.most for one in seen)
        rows.append([kind.name, f"{len(seen):,}", f"{calls:,}", f"{refused:,}", f"{peak:,}", seen[0].limit])
    return _aligned(rows)


def seen_table(what: str, seen: Mapping[str, EndpointSummary]) -> list[str]:
    """Return a table of the calls at each endpoint or budget; the peak is the most in any period of its limit."""
    rows = [[name, f"{one.calls:,}", f"{one.refused:,}", f"{one.most:,}", one.limit] for name, one in seen.items()]
    return _aligned([[what, "calls", "refused", "peak", "limit"], *rows])


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align names left and figures right; the last column, the limits, is unchanged."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *figures, limit in rows:
        right = [figure.rjust(width) for figure, width in zip(figures, widths[1:-1], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *right, limit]))
    return lines
