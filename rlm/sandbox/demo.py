"""Plays a demo: pushes items, starts processes, requests one run, shows it until it is on record, and judges it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from random import Random
from textwrap import wrap
from typing import TextIO

import msgspec

from rlm.admin import report, words
from rlm.admin.text import capital
from rlm.core.clock import isoformat, system_clock
from rlm.core.documents import Record
from rlm.core.endpoint import EventType
from rlm.core.run import State
from rlm.core.text import counted
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

        def finished() -> Record | None:
            if store.runs.is_open(run_id):
                view.show(report.status_of(store, run_id))
            return store.runs.record(run_id)

        patience = stage.settings.run.window_seconds + 10.0  # RLM promises one second after its deadline
        record = stage.wait_for(finished, patience, f"run {run_id} did not end", pause=0.25)
        view.show(record)
    stage.group.end()
    return _judged(record, stage, events, len(items))


def make_items(events: int, types: Sequence[str], random: Random, now: float) -> list[bytes]:
    """Return shuffled JSON items with `events` events in all, equally many of each type (give or take one).

    An item has one to three events. Every item has its own wallet; `now` is their timestamp, in seconds since 1970.
    """
    items, names = list[bytes](), [types[number % len(types)] for number in range(events)]
    while names:
        size = random.randint(1, min(3, len(types)))
        item = {
            "id": f"{round(now * 1000) + len(items)}-{random.getrandbits(36):09x}",
            "wallet_name": f"wallet_{len(items):05d}",
            "events": names[:size],
            "worker_id": str(len(items) % 4 + 1),
            "timestamp": isoformat(now),
            "retry_count": 0,
        }
        items.append(msgspec.json.encode(item))
        del names[:size]
    random.shuffle(items)
    return items


def _judged(record: Record, stage: Stage, events: int, items: int) -> DemoVerdict:
    """Judge a run by RLM's promises, after everything has stopped: by its record, the API's arrivals and the books.

    The mock API counts on its own (`rlm/sandbox/mockapi.py`): the judge shares no code with what it judges.
    """
    accepted, api, counts = [call for call in stage.api.arrivals if call.accepted], stage.api.summary(), record.counts
    reached = Counter(call.event_id for call in accepted if call.run_id == record.run_id)
    refused, is_over = sum(each.refused for each in api.values()), record.state in {State.COMPLETED, State.PARTIAL}
    lost = events - books(stage.store).unsettled - len({call.event_id for call in accepted})
    unforeseen = counts.leftover if record.plan.fitting == events else 0
    promises = {
        f"the run ended {record.state} ({record.failure})": is_over,
        f"the API refused {counted(refused, 'call')}": refused == 0,
        f"{counted(lost, 'event')} lost: neither seen by the API nor in the ledger": lost <= 0,
        f"{counts.taken} of {counted(events, 'event')} taken": counts.taken == events,
        f"{counted(counts.completed, 'event')} completed, {len(reached)} by the API": counts.completed <= len(reached),
        f"{counted(counts.failed, 'event')} failed": counts.failed == 0,
        f"{counted(unforeseen, 'event')} left over, though all should have fitted": unforeseen == 0,
    }
    return DemoVerdict(
        record=record,
        api=api,
        items=items,
        refused=refused,
        doubled=sum(number > 1 for number in reached.values()),
        as_promised=all(promises.values()),
        broken=[words for words, is_kept in promises.items() if not is_kept],
    )


def view_on(stream: TextIO, title: str) -> View:
    """Return the view on `stream`: a picture redrawn in place, whose last state remains, or plain lines.

    The endpoints are left to the summary, which has them as the API saw them.
    """
    return View(stream, partial(picture_of, name=title, endpoints=False), words.line)


def prologue(settings: Settings, events: int, speed: float) -> Iterator[str]:
    """Yield an introduction to the demo, in words."""
    types, endpoints = len(settings.event_types), len(settings.endpoints)
    yield f"RLM demo: {counted(events, 'event')} of {counted(types, 'type')}, a server, a scheduler, a supervisor,"
    yield f"and an API of {counted(endpoints, 'endpoint')} that refuses every call above its limit."
    if speed != 1:
        window = settings.run.window_seconds
        yield f"All times are divided by {speed:g}: a window of {window / speed:g} s stands for {window:g} s."
    yield "Once all are up, a run is started, as by `rlm start`...\n"


def summary(verdict: DemoVerdict, types: Sequence[EventType]) -> Iterator[str]:
    """Yield the result, the comparison with the forecast, and the API's view by type."""
    record, calls = verdict.record, sum(seen.calls for seen in verdict.api.values())
    yield f"{counted(record.counts.taken, 'event')} in {counted(verdict.items, 'item')} were taken off the audit list."
    yield f"The run ended {words.summary(record)}."
    if record.counts.leftover:
        for cause in words.causes(record):
            yield from wrap(f"{capital(cause)}.", 80)
        yield "Nothing is lost: what is left over stays in the ledger; the next run would take it first."
    for name, fact in words.against_plan(record).items():
        yield f"{capital(name)}: {fact}."
    yield from ("", *_by_type(verdict.api, types), "")
    refused = f"refused {counted(verdict.refused, 'call')} of" if verdict.refused else "refused nothing:"
    doubled = f"{counted(verdict.doubled, 'event')} came more than once" if verdict.doubled else "No event came twice"
    yield f"The API {refused} {counted(calls, 'call')}. {doubled}."
    yield from (f"NOT AS PROMISED: {broken}." for broken in verdict.broken)
    yield ""


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
