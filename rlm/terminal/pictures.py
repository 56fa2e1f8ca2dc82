"""The pictures of an open run, of a finished one, of the time between two, and of the queues."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import msgspec
from msgspec.structs import astuple
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from rlm.admin import words
from rlm.admin.text import LONGEST_LINE, LONGEST_TEXT, span
from rlm.core.documents import EndpointView, QueueLook, Record, Rest, RunDocument, RunStatus, View, Worker
from rlm.core.endpoint import Circuit
from rlm.core.text import counted, cut, safe_line
from rlm.terminal.drawing import QUIET, bar, facts, picture, state_text, table

CONDITION_STYLES = {"error": "bold red", "warning": "yellow", "info": QUIET}
#: With more endpoints and budgets than this, only those that are not well, and of a finished run those with calls, have
#: rows; more workers than the other are only counted.
LISTED_ENDPOINTS, LISTED_WORKERS = 8, 20

#: In these states of an endpoint only its limit decides.
_WELL = {Circuit.OK, Circuit.FULL}

_Document = TypeVar("_Document", bound=msgspec.Struct)


def _safe(document: _Document) -> _Document:
    return msgspec.convert(_harmless(msgspec.to_builtins(document)), type(document))


def _harmless(document: Any) -> Any:
    """Return a JSON document for display: `safe_line` is applied to every text, and each is cut."""
    if isinstance(document, dict):
        return {cut(safe_line(name), LONGEST_TEXT): _harmless(value) for name, value in document.items()}
    if isinstance(document, list | tuple):
        return [_harmless(value) for value in document]
    return cut(safe_line(document), LONGEST_LINE) if isinstance(document, str) else document


def picture_of(document: View, name: str = "", *, endpoints: bool = True) -> RenderableType:
    """Return the picture of a status: of an open run, of a finished run, or of none.

    The title has the id of the run, or `name`; without `endpoints` a finished run has only its types.
    """
    shown = _safe(document)
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
    headings = "type|~|#done|#busy:cyan|#waiting|#failed:bold red|#slots used:dim"
    yield table(headings, (_type(run, name) for name in run.by_type))
    limited = [each for each in run.endpoints.values() if each.allowed]
    if len(limited) > LISTED_ENDPOINTS:
        limited = [each for each in limited if each.health not in _WELL]
    if limited:
        yield Text()
        yield table("endpoint|~|#used|#next slot:dim|limit:dim|health", map(_endpoint, limited))
    for condition in run.conditions:
        yield Text(f"! {words.told(condition)}", style=CONDITION_STYLES[condition.severity])
    for trouble in words.troubles(run):
        yield Text(f"! {trouble}", style="yellow")
    yield from _intake(run)
    yield Text()
    yield Text.assemble(("workers ", QUIET), words.workers(run))
    team = table("#process:dim|host:dim|lanes|what it does", map(_worker, run.workers.each[:LISTED_WORKERS]))
    team.show_header = False
    yield team
    if (hidden := len(run.workers.each) - LISTED_WORKERS) > 0:
        yield Text(f"and {counted(hidden, 'more worker')}", style=QUIET)


def _type(run: RunStatus, name: str) -> list[RenderableType | float]:
    """Return the row of a type: its name, a bar, counts, and the slots used of those of its endpoints."""
    counts = words.counts_of(run.by_type[name])
    own = [end for end in run.endpoints.values() if end.kind == "endpoint" and name in end.types]
    slots = f"{sum(end.used for end in own):,}/{sum(end.allowed for end in own):,}"
    progress = f"{counts.completed:,}/{counts.total:,}" if counts.total else "-"
    done = bar(counts.completed, counts.total, "green")
    return [name, done, progress, counts.under_way, counts.waiting, counts.failed, slots]


def _endpoint(end: EndpointView) -> list[RenderableType | float]:
    left = f" for {span(end.circuit_seconds)}" if end.circuit_seconds is not None else ""
    health = Text(f"{end.health}{left}", style="green" if end.health in _WELL else "red")
    used, colour = f"{end.used}/{end.allowed}", "cyan" if end.free > 0 else "yellow"
    return [end.name, bar(end.used, end.allowed, colour), used, words.next_slot(end), end.limit, health]


def _intake(run: RunDocument) -> Iterator[RenderableType]:
    if number := run.counts.duplicates:  # dead letters are among the troubles
        yield Text(f"intake: {counted(number, 'duplicate')}", style=QUIET)


def _worker(worker: Worker) -> list[RenderableType]:
    lanes = Text.assemble(("▮" * worker.busy, "cyan"), ("▯" * max(0, worker.threads - worker.busy), QUIET))
    is_odd = worker.other_configuration or worker.state != "ready"
    does = Text(
        words.doing(worker), "yellow" if is_odd else "" if worker.calls else QUIET, no_wrap=True, overflow="ellipsis"
    )
    return [str(worker.pid), worker.host, lanes, does]


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
    types = record.by_type.items()
    rows = [(name, bar(n.completed, n.taken + n.carried_over, "green"), *astuple(n)) for name, n in types]
    yield table("type|~|#taken|#carried|#done:green|#failed:bold red|#left over:yellow", rows)
    shown = {**record.by_endpoint, **record.by_budget} if endpoints else {}
    if len(shown) > LISTED_ENDPOINTS:
        shown = {name: each for name, each in shown.items() if each.calls}
    if shown:
        yield Text()
        yield table(
            "endpoint|#calls|#completed:green|#throttled:yellow|#errors:bold red|#peak|limit:dim|#p50 ms|#p95 ms",
            [(name, *astuple(each)) for name, each in shown.items()],
        )


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
    yield from _figures(words.figures(state))
    for condition in state.conditions:
        yield condition.severity, Text(words.told(condition), style=CONDITION_STYLES[condition.severity])
    place = state.installation
    where = f"{place.config or 'the built-in defaults'}, Redis {place.redis}, prefix {place.prefix}"
    yield "looking at", Text(where, style=QUIET)


def _figures(figures: Iterable[tuple[str, int, str]]) -> Iterator[tuple[str, Text]]:
    for word, number, kind in figures:
        how = ", `rlm failed list --grouped` says why" if number and kind == "bad" else ""
        yield word, Text(f"{number:,}{how}", style="yellow" if kind and number else "")


# -- the queues


def queue_picture(look: QueueLook) -> RenderableType:
    """Return the picture of the queues from the document of `rlm queue monitor`."""
    look = _safe(look)
    title = Text.assemble(("queues", "bold default"), (f" · {words.clock(look.as_of)} UTC", QUIET))
    waiting = words.queue_rows(look)
    most = max((number for _, number, _ in waiting), default=0)
    rows = [(name, bar(number, most), number, age) for name, number, age in waiting]
    return picture(title, [facts(_queue_facts(look)), Text(), table("type|~|#waiting|#oldest", rows)])


def _queue_facts(look: QueueLook) -> Iterator[tuple[str, Text]]:
    memory = f" of {look.max_bytes / 1_000_000:,.0f}" if look.max_bytes else ""
    yield "Redis", Text(f"answers in {look.ping_ms:g} ms, uses {look.used_bytes / 1_000_000:,.0f}{memory} MB")
    yield from _figures(words.lengths(look))
    if run := look.run:
        yield "open run", Text(f"{span(run.seconds_left)} left; ").append_text(state_text(run.state))
    for name, rate in (("items a minute", look.arriving_per_minute), ("settled a minute", look.settled_per_minute)):
        yield name, Text("not known yet" if rate is None else f"{rate:,.0f}")


def queue_line(look: QueueLook) -> str:
    """Return the queues in one line, for output without a terminal."""
    return "; ".join(f"{name} {text.plain}" for name, text in _queue_facts(look))
