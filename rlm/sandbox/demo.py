"""Plays a demo: pushes items, starts processes, requests one run, shows it until it is on record, and judges it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from textwrap import wrap
from typing import TextIO

import msgspec
from rich.console import RenderableType

from rlm.admin import report, words
from rlm.core.clock import isoformat, system_clock
from rlm.core.documents import Record, RunStatus
from rlm.core.endpoint import EventType
from rlm.core.run import State
from rlm.core.text import capital, counted, sentence
from rlm.ledger.books import books
from rlm.sandbox.mockapi import EndpointSummary
from rlm.sandbox.stage import Stage
from rlm.settings import Settings
from rlm.terminal.live import View
from rlm.terminal.pictures import picture_of


class DemoVerdict(msgspec.Struct, frozen=True):
    """The result of a demo of `items` items: what `rlm demo --json` prints.

    `doubled` events arrived more than once; `broken` are the broken promises, in words.
    """

    record: Record
    api: Mapping[str, EndpointSummary]
    items: int
    refused: int
    doubled: int
    as_promised: bool
    broken: Sequence[str]


def play(stage: Stage, view: View, events: int) -> DemoVerdict:
    """Show one run of `events` events, stop the processes, and judge the result.

    Raise RunError if a process ends or makes no progress, or at a signal, and StoreError if the server is gone.
    """
    store = stage.store
    items = make_items(events, [kind.name for kind in stage.settings.event_types], Random(), system_clock.now())
    store.intake.push(items)  # before any process can take some of them
    with view:
        run_id = stage.start_run()

        def look() -> None:
            if store.runs.is_open(run_id):
                view.show(report.status(store, run_id))

        record = stage.await_record(run_id, look)
        view.show(record)
    stage.group.end()
    return _judged(record, stage, events, len(items))


def make_items(events: int, types: Sequence[str], random: Random, now: float) -> list[bytes]:
    """Return shuffled JSON items with `events` events in all, equally many of each type (give or take one).

    An item has one to three events. Every item has its own wallet; `now` is their timestamp, in seconds since 1970.
    """
    names = [types[number % len(types)] for number in range(events)]
    groups = []
    while names:
        size = random.randint(1, min(3, len(types)))
        groups.append(names[:size])
        del names[:size]
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


def _judged(record: Record, stage: Stage, events: int, items: int) -> DemoVerdict:
    """Judge a run by RLM's promises, after everything has stopped: by its record, the API's arrivals and the books.

    The mock API counts on its own (`rlm/sandbox/mockapi.py`): the judge shares no code with what it judges.
    """
    accepted, seen = [call for call in stage.api.arrivals if call.accepted], stage.api.summary()
    reached = Counter(call.event_id for call in accepted if call.run_id == record.run_id)
    refused = sum(each.refused for each in seen.values())
    lost = events - books(stage.store).unsettled - len({call.event_id for call in accepted})
    broken = list(_broken(record, events, len(reached), refused, lost))
    return DemoVerdict(
        record=record,
        api=seen,
        items=items,
        refused=refused,
        doubled=sum(number > 1 for number in reached.values()),
        as_promised=not broken,
        broken=broken,
    )


def _broken(record: Record, events: int, reached: int, refused: int, lost: int) -> Iterator[str]:
    """Yield the broken promises; the API saw `reached` of the run's events."""
    counts = record.counts
    if record.state not in {State.COMPLETED, State.PARTIAL}:
        yield f"the run ended {record.state} ({record.failure or 'no failure is on record'})"
    if refused:
        yield f"the API refused {counted(refused, 'call')}"
    if lost > 0:
        yield f"{counted(lost, 'event')} lost: neither seen by the API nor in the ledger"
    if counts.taken != events:
        yield f"{counts.taken} of {counted(events, 'event')} taken"
    if reached < counts.completed:
        yield f"{counted(counts.completed, 'event')} completed by the record, {reached} by the API"
    if counts.failed:
        yield f"{counted(counts.failed, 'event')} failed"
    if counts.leftover and not record.plan.expected_leftover:
        yield f"{counted(counts.leftover, 'event')} left over, though all should have fitted"


def view_on(stream: TextIO, title: str) -> View:
    """Return the view on `stream`: a picture redrawn in place, whose last state remains, or plain lines."""

    def picture(run: RunStatus | Record) -> RenderableType:
        return picture_of(run, title, endpoints=False)  # the summary has them, as the API saw them

    return View(stream, picture, words.line)


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
    calls = sum(seen.calls for seen in verdict.api.values())
    refused = f"refused {counted(verdict.refused, 'call')} of" if verdict.refused else "refused nothing:"
    doubled = f"{counted(verdict.doubled, 'event')} came more than once" if verdict.doubled else "No event came twice"
    return [
        *_outcome(verdict),
        "",
        *_by_type(verdict.api, types),
        "",
        f"The API {refused} {counted(calls, 'call')}. {doubled}.",
        *(f"NOT AS PROMISED: {broken}." for broken in verdict.broken),
        "",
    ]


def _outcome(verdict: DemoVerdict) -> Iterator[str]:
    record = verdict.record
    yield f"{counted(record.counts.taken, 'event')} in {counted(verdict.items, 'item')} were taken off the audit list."
    yield f"The run ended {words.summary(record)}."
    if record.counts.leftover:
        for cause in record.why:
            yield from wrap(sentence(cause.sentence), 80)
        yield "Nothing is lost: what is left over stays in the ledger; the next run would take it first."
    for name, fact in words.against_plan(record).items():
        yield f"{capital(name)}: {fact}."


def _by_type(api: Mapping[str, EndpointSummary], types: Sequence[EventType]) -> list[str]:
    """Return a table of the API's view by type; the peak is the most in any period of an endpoint's limit."""
    rows = [("seen by the API", "calls", "refused", "peak", "limit")]
    for kind in types:
        seen = [api[endpoint.name] for endpoint in kind.endpoints]
        calls, refused = (sum(getattr(each, field) for each in seen) for field in ("calls", "refused"))
        most = max(each.most for each in seen)
        rows.append((kind.name, f"{calls:,}", f"{refused:,}", f"{most:,}", seen[0].limit))
    width = max(len(row[0]) for row in rows)
    return [
        f"{name:<{width}}  {calls:>8}  {refused:>7}  {peak:>6}  {limit}" for name, calls, refused, peak, limit in rows
    ]
