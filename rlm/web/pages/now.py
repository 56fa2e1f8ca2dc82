"""The page Now: whether everything will be done in time, what will be left, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from rlm.admin import report, words
from rlm.admin.letters import grouped
from rlm.admin.runs import runs_page
from rlm.admin.words import against_plan, troubles, verdict
from rlm.core.documents import EndpointView, LiveCallCounts, Now, Record, RunStatus, WorkerNow
from rlm.core.endpoint import Circuit
from rlm.core.run import State
from rlm.ledger.processes import WorkerState
from rlm.web.pages.events import group
from rlm.web.pages.live import Documents
from rlm.web.pages.page import Page, Query
from rlm.web.pages.run_plot import plot
from rlm.web.pages.runs import read_run

_Health: TypeAlias = EndpointView | LiveCallCounts
#: The phases of a run, each with its word on the page.
PHASES: Final = {State.DRAINING: "drain", State.PLANNING: "plan", State.RUNNING: "run", State.FINISHING: "finish"}
#: The class of each health in pictures and badges.
HEALTHS: Final = dict.fromkeys(Circuit, "warn") | {Circuit.OK: "well", Circuit.FULL: "busy", Circuit.RESTING: "bad"}


def context(documents: Documents, _question: Query) -> Mapping[str, object]:
    """Return the values of the page."""
    now = documents.status()
    run = now if isinstance(now, RunStatus) else None
    shown = now if isinstance(now, RunStatus) else now.last_record
    last_runs = documents.get("last runs", lambda store: runs_page(store, 6).records, 2.0)
    letters = documents.get("letter groups", lambda store: grouped(store.letters.all()), 2.0)
    return {
        "now": now,
        "is_open": run is not None,
        "verdict": verdict(now),
        "conditions": now.conditions,
        "halted": words.halted(now),
        "place": documents.get("installation", report.installation, 60.0),
        "is_overdue": run is not None and words.overdue_seconds(run) > 0,
        "phases": _phases(run.state) if run else [],
        "figures": _figures(now),
        "plot": plot(*read_run(documents, shown.run_id), 300) if shown else None,
        "run_id": shown.run_id if shown else "",
        "plan": against_plan(shown) if shown else {},
        "types": _types(shown, now.by_endpoint) if shown else [],
        **_team(run.workers.each if run else ()),
        "hosts": now.hosts if len(now.hosts) > 1 else (),
        "team_words": words.workers(run) if run else f"{now.workers:,} alive",
        "troubles": troubles(shown) if shown else [],
        "called": shown is not None and any(each.calls for each in shown.by_endpoint.values()),
        "groups": [group(each, letters, {}) for each in letters[:5]],
        "letters": sum(each.letters for each in letters),
        "runs": [(record, words.summary(record)) for record in last_runs],
        "healths": HEALTHS,
    }


def _team(workers: Sequence[WorkerNow]) -> dict[str, object]:
    """Return the workers to show with their activity, busy ones first; and how many are `hidden`."""
    first = sorted(workers, key=lambda worker: not worker.calls and worker.state == WorkerState.READY)[:10]
    shown = [(worker, words.doing(worker)) for worker in first]
    return {"team": shown, "hidden": len(workers) - len(shown)}


def _figures(now: Now) -> list[tuple[str, str, str]]:
    """Return the figures of an open run or of the time between two: words, number, and class if it is not 0."""
    if not isinstance(now, RunStatus):
        waiting = now.waiting
        figures = [
            ("items waiting", waiting.events + waiting.staged, ""),
            ("left over", waiting.leftover, "warn"),
            ("dead letters", waiting.failed, "bad"),
            ("workers alive", now.workers, ""),
        ]
        return [(word, f"{number:,}", kind if number else "") for word, number, kind in figures]
    counts, halted, expected = words.counts_in_all(now), words.halted(now), words.expected_of(now)
    figures = [
        (f"done of {counts.total:,}", counts.completed, ""),
        ("under way", counts.under_way, ""),
        ("waiting", max(0, counts.waiting), "warn" if halted else ""),
        ("failed", counts.failed, "bad"),
        ("carried in", now.counts.carried_over, ""),
    ]
    if now.to_take:
        figures.insert(3, ("items still to take", now.to_take, ""))
    if expected is not None and not halted:  # otherwise nobody knows
        figures.append(("expected to be left over", expected.expected_leftover, "warn"))
    figures.append(("calls a minute", round(words.calls_a_minute(now)), ""))
    shown = [(word, f"{number:,}", kind if number else "") for word, number, kind in figures]
    return [*shown, ("workers ready", f"{words.workers_ready(now):,} of {now.workers.wanted:,}", "")]


def _phases(state: str) -> list[tuple[str, str]]:
    """Return the phases of a run, each with whether it is `past`, `present` or `future`."""
    place = list(PHASES).index(State(state))
    when = ["past"] * place + ["present"] + ["future"] * len(PHASES)
    return [*zip(PHASES.values(), when, strict=False)]


def _types(shown: RunStatus | Record, by_endpoint: Mapping[str, _Health]) -> list[dict[str, object]]:
    """Return for each type its counts and its endpoints, with the use of their windows."""
    waits_in = "leftover" if isinstance(shown, Record) else "waiting"
    rows = []
    for name, entry in shown.by_type.items():
        counts = words.counts_of(entry)
        endpoints = [(end, health) for end, health in by_endpoint.items() if name in health.types]
        waiting = {"leftover": 0, "waiting": 0} | {waits_in: max(0, counts.waiting)}
        rows.append({"name": name, "counts": counts, **waiting, "endpoints": endpoints})
    return rows


PAGE: Final = Page("/", "Now", "now.html", context, command="rlm status --follow", label="Now")
