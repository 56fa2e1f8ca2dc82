"""The pictures of an open run, of a finished one, of the time between two, and of the queues."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from rlm.admin import words
from rlm.core.documents import (
    CallCounts,
    EndpointView,
    QueueLook,
    QueueStats,
    Record,
    Rest,
    RunDocument,
    RunStatus,
    TypeQueue,
    View,
)
from rlm.core.endpoint import WELL
from rlm.core.text import counted, harmless, span
from rlm.terminal.drawing import QUIET, bar, columns, facts, name_text, number, picture, state_text

CONDITION_STYLES = {"error": "bold red", "warning": "yellow", "info": QUIET}
#: With more endpoints and budgets than this, only those that are not well, and of a finished run those with calls, have
#: rows; more workers than the other are only counted.
LISTED_ENDPOINTS, LISTED_WORKERS = 8, 20


def picture_of(document: View, name: str = "", *, endpoints: bool = True) -> RenderableType:
    """Return the picture of a status: of an open run, of a finished run, or of none.

    The title has the id of the run, or `name`; without `endpoints` a finished run has only its types.
    """
    shown = msgspec.convert(harmless(msgspec.to_builtins(document)), type(document))
    if isinstance(shown, Rest):
        return picture(Text("no run is open", style="bold default"), [facts(_rest(shown))])
    parts = _of_open(shown) if isinstance(shown, RunStatus) else _of_finished(shown, endpoints=endpoints)
    title = Text.assemble(*([(name, "bold")] if name else ["run ", (shown.run_id, "bold")]), (" · ", QUIET))
    return picture(title.append_text(state_text(shown.state)).append(f" · {shown.trigger}", QUIET), parts)


# -- an open run


def _of_open(run: RunStatus) -> Iterator[RenderableType]:
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(ratio=1)
    grid.add_column(justify="right", no_wrap=True)
    gone = bar(run.window_seconds - run.seconds_left, run.window_seconds)
    grid.add_row(gone, Text(f"{span(run.seconds_left)} left of {span(run.window_seconds)}", style="bold cyan"))
    yield grid
    yield Text(words.progress(run))
    expected = words.forecast(run)
    yield Text(expected.words, style="green" if expected.level == "well" else "yellow")
    if expected.more:
        yield Text(expected.more, style=QUIET)
    yield Text()
    yield _live_types(run)
    limited = {name: each for name, each in run.endpoints.items() if each.allowed}
    if len(limited) > LISTED_ENDPOINTS:
        limited = {name: each for name, each in limited.items() if each.health not in WELL}
    if limited:
        yield Text()
        yield _live_endpoints(limited)
    for condition in run.conditions:
        yield Text(f"! {words.told(condition)}", style=CONDITION_STYLES[condition.severity])
    for trouble in words.call_troubles(run):
        yield Text(f"! {trouble}", style="yellow")
    yield from _intake(run)
    yield Text()
    yield Text.assemble(("workers ", QUIET), words.workers(run))
    yield _team(run)
    if (hidden := len(run.workers.each) - LISTED_WORKERS) > 0:
        yield Text(f"and {counted(hidden, 'more worker')}", style=QUIET)


def _live_types(run: RunStatus) -> Table:
    """Return a table of types with a bar, counts, and the slots used of those of its endpoints."""
    table = columns("type", "#done", "#busy", "#waiting", "#failed", "#slots used", bar=True)
    for name, entry in run.by_type.items():
        counts = words.counts_of(entry)
        own = [end for end in run.endpoints.values() if end.kind == "endpoint" and name in end.types and end.allowed]
        used = f"{sum(end.used for end in own):,}/{sum(end.allowed for end in own):,}" if own else "-"
        table.add_row(
            name_text(name, "" if counts.total else QUIET),
            bar(counts.completed, counts.total, "green"),
            Text(f"{counts.completed:,}/{counts.total:,}") if counts.total else number(0),
            number(counts.under_way, "cyan"),
            number(counts.waiting),
            number(counts.failed, "bold red"),
            Text(used, style=QUIET if all(end.health in WELL for end in own) else "red"),
        )
    return table


def _live_endpoints(limited: Mapping[str, EndpointView]) -> Table:
    table = columns("endpoint", "#used", "#next slot", "limit", "health", bar=True)
    for name, each in limited.items():
        is_full = each.free <= 0
        left = f" for {span(each.circuit_seconds)}" if each.circuit_seconds is not None else ""
        table.add_row(
            name_text(name),
            bar(each.used, each.allowed, "yellow" if is_full else "cyan"),
            Text(f"{each.used}/{each.allowed}", style="yellow" if is_full else ""),
            Text(words.next_slot(each), style="" if is_full else QUIET),
            name_text(each.limit, QUIET),
            Text(f"{each.health}{left}", style="green" if each.health in WELL else "red"),
        )
    return table


def _intake(run: RunDocument) -> Iterator[RenderableType]:
    nouns = {"invalid item": run.counts.invalid, "duplicate": run.counts.duplicates}
    if intake := [counted(number, noun) for noun, number in nouns.items() if number]:
        yield Text(f"intake: {', '.join(intake)}", style=QUIET)


def _team(run: RunStatus) -> Table:
    table = columns("#process", "host", "lanes", "what it does")
    table.show_header = False
    for worker in run.workers.each[:LISTED_WORKERS]:
        lanes = Text.assemble(("▮" * worker.busy, "cyan"), ("▯" * max(0, worker.threads - worker.busy), "dim"))
        is_odd = worker.other_configuration or worker.state != "ready"
        does = Text(words.doing(worker), style="yellow" if is_odd else "" if worker.calls else QUIET)
        does.no_wrap, does.overflow = True, "ellipsis"
        table.add_row(Text(str(worker.pid), style=QUIET), name_text(worker.host, QUIET), lanes, does)
    return table


# -- a finished run


def _of_finished(record: Record, *, endpoints: bool) -> Iterator[RenderableType]:
    began, ended = words.clock(record.started_at), words.clock(record.finished_at)
    took = f"{span(record.duration_seconds)} of {span(record.window_seconds)}"
    yield Text(f"{began} to {ended} UTC, {took}: {words.outcome(record.counts)}")
    if record.failure:
        yield Text(record.failure, style="bold red")
    lines = ["there was no event to send"]
    if words.counts_in_all(record).total:
        lines = [*(f"{name}: {what}" for name, what in words.against_plan(record).items()), words.used(record)]
    for line in filter(None, lines + words.troubles(record)):
        yield Text(line, style=QUIET)
    yield from _intake(record)
    yield Text()
    yield _types(record)
    shown = {**record.by_endpoint, **record.by_budget} if endpoints else {}
    if len(shown) > LISTED_ENDPOINTS:
        shown = {name: each for name, each in shown.items() if each.calls}
    if shown:
        yield Text()
        yield _endpoints(shown)


def _types(record: Record) -> Table:
    table = columns("type", "#taken", "#carried", "#done", "#failed", "#left over", bar=True)
    for name, each in record.by_type.items():
        table.add_row(
            name_text(name),
            bar(each.completed, each.taken + each.carried_over, "green"),
            number(each.taken),
            number(each.carried_over),
            number(each.completed, "green"),
            number(each.failed, "bold red"),
            number(each.leftover, "yellow"),
        )
    return table


def _endpoints(shown: Mapping[str, CallCounts]) -> Table:
    """Return a table of endpoints and budgets: calls, answers, peak, limit, durations."""
    headings = ("#calls", "#completed", "#throttled", "#errors", "#peak", "limit", "#p50 ms", "#p95 ms")
    table = columns("endpoint", *headings)
    for name, each in shown.items():
        table.add_row(
            name_text(name, "" if each.calls else QUIET),
            number(each.calls),
            number(each.completed, "green"),
            number(each.throttled, "yellow"),
            number(each.errors, "bold red"),
            number(each.peak_in_window),
            name_text(each.limit, QUIET),
            number(round(each.p50_ms)),
            number(round(each.p95_ms)),
        )
    return table


# -- the time between two runs


def _rest(state: Rest) -> Iterator[tuple[str, Text]]:
    """Yield the facts about the state between two runs, each with its name."""
    if record := state.last_record:
        ended = Text(f"{record.run_id}, at {words.clock(record.finished_at)} UTC, ")
        yield "last run", ended.append(words.summary(record), state_text(record.state).style)
    else:
        yield "last run", Text(f"none yet; `rlm start{'' if state.schedulers else ' --wait'}` starts one now")
    yield "last tick", Text(f"{words.clock(state.last_tick)} UTC" if state.last_tick else "none yet")
    if state.schedulers and not words.halted(state):
        yield "next tick", Text(f"{words.clock(state.next_tick)} UTC", style="cyan")
    yield "waiting", Text(_waiting(state.waiting))
    if letters := state.waiting.failed:
        yield "dead letters", Text(f"{letters:,}; see `rlm failed list`", style="yellow")
    yield "workers", Text(f"{state.workers:,} alive" if state.workers else "none; they start when a run needs them")
    for condition in state.conditions:
        yield condition.severity, Text(words.told(condition), style=CONDITION_STYLES[condition.severity])
    place = state.installation
    where = f"{place.config or 'the built-in defaults'}, Redis {place.redis}, prefix {place.prefix}"
    yield "looking at", Text(where, style=QUIET)


def _waiting(stats: QueueStats) -> str:
    parts = [counted(stats.events, "item")] if stats.events else []
    parts += [f"{stats.staged:,} in staging"] if stats.staged else []
    parts += [f"{counted(stats.leftover, 'event')} left over"] if stats.leftover else []
    return ", ".join(parts) or "nothing"


# -- the queues


def queue_picture(look: QueueLook) -> RenderableType:
    """Return the picture of the queues from the document of `rlm queue monitor`."""
    title = Text.assemble(("queues", "bold default"), (f" · {words.clock(look.as_of)} UTC", QUIET))
    return picture(title, [facts(_queue_facts(look)), Text(), _queue_types(look.by_type)])


def _queue_facts(look: QueueLook) -> Iterator[tuple[str, Text]]:
    memory = f" of {look.max_bytes / 1_000_000:,.0f}" if look.max_bytes else ""
    yield "Redis", Text(f"answers in {look.ping_ms:g} ms, uses {look.used_bytes / 1_000_000:,.0f}{memory} MB")
    staged = f", {look.staged:,} in staging" if look.staged else ""
    yield "audit list", Text(f"{counted(look.events, 'item')}{staged}")
    if run := look.run:
        text = Text(f"{look.processing:,} not settled, {span(run.seconds_left)} left; ")
        yield "open run", text.append_text(state_text(run.state))
    else:
        yield "leftovers", Text(counted(look.leftover, "event"))
    letters = Text(f"{look.failed:,}; see `rlm failed list`", style="yellow") if look.failed else Text("none")
    yield "dead letters", letters
    yield "arriving", Text(_rate(look.arriving_per_minute, "item"))
    yield "settled", Text(_rate(look.settled_per_minute, "event"))


def _rate(number: float | None, noun: str) -> str:
    return "not known yet" if number is None else f"{number:,.0f} {noun}s/min"


def _queue_types(by_type: Mapping[str, TypeQueue]) -> Table:
    table = columns("type", "#waiting", "#oldest", bar=True)
    most = max((each.pending for each in by_type.values()), default=0)
    for name, each in by_type.items():
        table.add_row(name_text(name), bar(each.pending, most), number(each.pending), Text(span(each.oldest_seconds)))
    return table


def queue_line(look: QueueLook) -> str:
    """Return the queues in one line, for output without a terminal."""
    return "; ".join(f"{name} {text.plain}" for name, text in _queue_facts(look))
