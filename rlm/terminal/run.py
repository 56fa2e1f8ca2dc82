"""The picture of an open run: countdown, forecast, a bar per type, the use of endpoints, workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from rlm.admin import words
from rlm.admin.words import call_troubles
from rlm.core.documents import LiveCallCounts, RunDocument, RunStatus, TypeCounts, WorkerNow
from rlm.core.endpoint import WELL
from rlm.core.text import counted, safe_line, span
from rlm.terminal.drawing import QUIET, Bar, Picture, columns, name_text, number, state_text

CONDITION_STYLES = {"error": "bold red", "warning": "yellow", "info": QUIET}
#: With more endpoints and budgets than this, only those that are not well, and of a finished run those with calls, have
#: rows; more workers than the other are only counted.
LISTED_ENDPOINTS, _LISTED_WORKERS = 8, 20


def run_picture(run: RunStatus, title: str = "") -> Picture:
    """Return the picture of an open run."""
    return Picture(
        title_of(run, title), [*_head(run), Text(), _types(run), *_endpoints(run), *_notes(run), *_team(run)]
    )


def title_of(run: RunDocument, name: str = "") -> Text:
    """Return the title of a run's picture: its id or `name`, its state, its trigger."""
    title = Text.assemble(*([(name, "bold")] if name else ["run ", (safe_line(run.run_id), "bold")]), (" · ", QUIET))
    return title.append_text(state_text(run.state)).append(f" · {run.trigger}", QUIET)


def _head(run: RunStatus) -> Iterator[RenderableType]:
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(ratio=1)
    grid.add_column(justify="right", no_wrap=True)
    bar = Bar((max(0.0, run.window_seconds - run.seconds_left), "█", "cyan"), (run.seconds_left, "░", QUIET))
    grid.add_row(bar, Text(words.countdown(run), style="bold cyan"))
    yield grid
    yield Text(words.progress(run))
    expected = words.forecast(run)
    yield Text(expected.words, style="green" if expected.fits else "yellow")
    if expected.binds:
        yield Text(safe_line(expected.binds), style=QUIET)


def _types(run: RunStatus) -> Table:
    """Return a table of types with a bar, counts, and the slots used of those of its endpoints."""
    table = columns("type", "#done", "#busy", "#waiting", "#failed", "#slots used", bar=True)
    for name, entry in run.by_type.items():
        table.add_row(*_type_row(name, entry, run.by_endpoint))
    return table


def _type_row(name: str, entry: TypeCounts, endpoints: Mapping[str, LiveCallCounts]) -> list[RenderableType]:
    counts = words.counts_of(entry)
    settled = (counts.completed, "█", "green"), (counts.failed, "X", "red")
    bar = Bar(*settled, (counts.under_way, "▓", "cyan"), (counts.waiting, "░", QUIET))
    own = [end for end in endpoints.values() if name in end.types and end.allowed]
    used = f"{sum(end.used for end in own):,}/{sum(end.allowed for end in own):,}" if own else "-"
    return [
        name_text(name, "" if counts.total else QUIET),
        bar if counts.total else Text(),
        Text(f"{counts.completed:,}/{counts.total:,}") if counts.total else number(0),
        number(counts.under_way, "cyan"),
        number(counts.waiting),
        number(counts.failed, "bold red"),
        Text(used, style=QUIET if all(end.health in WELL for end in own) else "red"),
    ]


def _endpoints(run: RunStatus) -> Iterator[RenderableType]:
    """Yield a table of the endpoints and budgets; a read-only user of Redis sees none."""
    limited = {name: each for name, each in {**run.by_endpoint, **run.by_budget}.items() if each.allowed}
    if len(limited) > LISTED_ENDPOINTS:
        limited = {name: each for name, each in limited.items() if each.health not in WELL}
    if not limited:
        return
    table = columns("endpoint", "#used", "#next slot", "limit", "health", bar=True)
    for name, each in limited.items():
        is_full, is_well = each.free <= 0, each.health in WELL
        left = f" for {span(each.circuit_seconds)}" if each.circuit_seconds is not None else ""
        table.add_row(
            name_text(name),
            Bar((each.used, "█", "yellow" if is_full else "cyan"), (max(0, each.allowed - each.used), "░", QUIET)),
            Text(f"{each.used}/{each.allowed}", style="yellow" if is_full else ""),
            Text(words.next_slot(each), style="" if is_full else QUIET),
            name_text(each.limit, QUIET),
            Text(f"{each.health}{left}", style="green" if is_well else "red"),
        )
    yield Text()
    yield table


def _notes(run: RunStatus) -> Iterator[RenderableType]:
    """Yield what is unusual: the conditions, failed calls, bad items."""
    for condition in run.conditions:
        yield Text(f"! {words.told(condition)}", style=CONDITION_STYLES[condition.severity])
    for trouble in call_troubles(run):
        yield Text(f"! {trouble}", style="yellow")
    nouns = {"invalid item": run.counts.invalid, "duplicate": run.counts.duplicates}
    if intake := [counted(number, noun) for noun, number in nouns.items() if number]:
        yield Text(f"intake: {', '.join(intake)}", style=QUIET)


def _team(run: RunStatus) -> Iterator[RenderableType]:
    """Yield the workers, one per row."""
    yield Text()
    yield Text.assemble(("workers ", QUIET), words.workers(run))
    table = columns("#process", "host", "lanes", "what it does")
    table.show_header = False
    for worker in run.workers.each[:_LISTED_WORKERS]:
        table.add_row(*_worker_row(worker))
    yield table
    if (hidden := len(run.workers.each) - _LISTED_WORKERS) > 0:
        yield Text(f"and {counted(hidden, 'more worker')}", style=QUIET)


def _worker_row(worker: WorkerNow) -> list[Text]:
    lanes = Text.assemble(("▮" * worker.busy, "cyan"), ("▯" * max(0, worker.threads - worker.busy), "dim"))
    is_odd = worker.other_configuration or worker.state != "ready"
    does = Text(words.doing(worker), style="yellow" if is_odd else "" if worker.calls else QUIET)
    does.no_wrap, does.overflow = True, "ellipsis"
    return [Text(str(worker.pid), style=QUIET), name_text(worker.host, QUIET), lanes, does]
