"""The summary of a demo in words."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

from rlm.core.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rlm.core.endpoint import EventType
    from rlm.sandbox.judge import DemoVerdict
    from rlm.sandbox.mockapi import EndpointSummary
    from rlm.settings import Settings


def prologue(settings: Settings, events: int, speed: float) -> list[str]:
    """Return what is about to be shown, in words."""
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
    """Return what happened, the comparison with the forecast, what the API saw by type, and where to go next."""
    return [
        *_outcome(verdict),
        *_forecast(verdict),
        "",
        *_tables(verdict, types),
        *_api(verdict),
        *(f"NOT AS PROMISED: {one}." for one in verdict.broken),
        "",
        "Next: `rlm init` in an empty directory writes a configuration of your own to",
        "begin with, and says what to type to see a run of it.",
    ]


def _outcome(verdict: DemoVerdict) -> Iterator[str]:
    record, counts = verdict.record, verdict.record["counts"]
    yield f"{counted(counts['taken'], 'event')} in {counted(verdict.items, 'item')} were taken off the audit list."
    yield (
        f"The run ended {record['state']} after {record['duration_seconds']:.1f} s of its "
        f"{record['window_seconds']:g} s window:"
    )
    yield f"{counts['completed']:,} completed, {counts['failed']:,} failed, {counts['leftover']:,} left over."
    if counts["leftover"]:
        for one in record.get("why", ()):
            yield from wrap(f"{one['sentence'][:1].upper()}{one['sentence'][1:]}.", 80)
        yield "Nothing is lost: what is left over stays in the ledger,"
        yield "and the next run would take it first."


def _forecast(verdict: DemoVerdict) -> Iterator[str]:
    planned, workers = verdict.record["plan"], verdict.record["workers"]
    if verdict.answered_seconds is None:
        yield "No call was answered."
        return
    forecast, late = planned["forecast_seconds"], verdict.late_seconds
    share = f" ({abs(late) / forecast:.1%})" if forecast else ""
    yield f"Forecast: {forecast:.1f} s from the first call to the last answer."
    yield f"Outcome: {verdict.answered_seconds:.1f} s, {abs(late):.2f} s{share} {'more' if late > 0 else 'less'}."
    if expected := planned["expected_leftover"]:
        yield f"Left over: {expected:,} expected, {verdict.record['counts']['leftover']:,} in fact."
    yield (
        f"{counted(planned['workers'], 'worker')} of {counted(planned['threads'], 'lane')} were planned for it, "
        f"{workers['peak']} worked; {workers['restarted']} had to be replaced."
    )


def _api(verdict: DemoVerdict) -> Iterator[str]:
    calls = sum(one.calls for one in verdict.api.values())
    if verdict.refused:
        yield f"The API refused {counted(verdict.refused, 'call')} of {calls:,}."
    else:
        yield f"The API refused nothing: {counted(calls, 'call')}, by its own count no peak above the limit."
    if verdict.doubled:
        yield f"{counted(verdict.doubled, 'event')} came more than once, with the same Idempotency-Key."
    else:
        yield "No event came twice."


def _tables(verdict: DemoVerdict, types: Sequence[EventType]) -> Iterator[str]:
    """Yield a table of what the API saw by type, with the highest peak of its endpoints."""
    headings = ["seen by the API", "endpoints", "calls", "refused", "peak", "limit"]
    rows = [headings]
    for kind in types:
        seen = [verdict.api[one.name] for one in kind.endpoints]
        calls, refused = sum(one.calls for one in seen), sum(one.refused for one in seen)
        peak = max(one.most for one in seen)
        rows.append([kind.name, f"{len(seen):,}", f"{calls:,}", f"{refused:,}", f"{peak:,}", seen[0].limit])
    yield from _aligned(rows)
    yield ""
    if verdict.budgets:
        yield from seen_table("budget", verdict.budgets)
        yield ""


def seen_table(what: str, seen: Mapping[str, EndpointSummary]) -> list[str]:
    """Return a table of what each endpoint or budget saw; the peak is the most calls in any period of its limit."""
    headings = [what, "calls", "refused", "peak", "limit"]
    rows = [[name, f"{one.calls:,}", f"{one.refused:,}", f"{one.most:,}", one.limit] for name, one in seen.items()]
    return _aligned([headings, *rows])


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [_row(row, widths) for row in rows]


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    name, *numbers, limit = cells
    figures = [cell.rjust(width) for cell, width in zip(numbers, widths[1:-1], strict=True)]
    return "  ".join([name.ljust(widths[0]), *figures, limit])
