"""The page Now: whether everything will be done in time, what will be left, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rlm.admin import report, words
from rlm.admin.letters import grouped
from rlm.admin.runs import RunFilter, runs_page
from rlm.admin.unwell import Health
from rlm.admin.verdict import against_plan, troubles_by_part, verdict
from rlm.core.documents import Now, Record, RunStatus, WorkerNow
from rlm.core.run import State
from rlm.core.window import Circuit
from rlm.ledger.processes import WorkerState
from rlm.web.pages.events import group
from rlm.web.pages.live import Documents
from rlm.web.pages.page import Page, Query
from rlm.web.pages.run_plot import plot
from rlm.web.pages.runs import read_run

#: The phases of a run, each with its word on the page.
PHASES: Final = {State.DRAINING: "drain", State.PLANNING: "plan", State.RUNNING: "run", State.FINISHING: "finish"}
#: Most runs to show, groups of dead letters, and workers.
LAST_RUNS, MOST_GROUPS, MOST_WORKERS = 6, 5, 10
#: The height of the curve in pixels.
HEIGHT = 300
#: The class of each health in pictures and badges.
HEALTHS: Final = dict.fromkeys(Circuit, "warn") | {Circuit.OK: "well", Circuit.FULL: "busy", Circuit.RESTING: "bad"}


def context(documents: Documents, _question: Query) -> Mapping[str, object]:
    """Return the values of the page."""
    found = documents.status()
    is_open = isinstance(found, RunStatus)
    shown = found if isinstance(found, RunStatus) else found.last_record
    last_runs = documents.get("last runs", lambda store: runs_page(store, RunFilter(), LAST_RUNS).records, 2.0)
    letters = documents.get("letter groups", lambda store: grouped(store.letters.all(), store), 2.0)
    return {
        "found": found,
        "is_open": is_open,
        "verdict": verdict(found),
        "place": documents.get("installation", report.installation, 60.0),
        "is_overdue": isinstance(found, RunStatus) and words.overdue_seconds(found) > 0,
        "phases": _phases(found.state) if is_open else [],
        "figures": _figures(found),
        "plot": plot(*read_run(documents, shown.run_id), HEIGHT) if shown else None,
        "run_id": shown.run_id if shown else "",
        "plan": against_plan(shown) if shown else {},
        "types": _types(shown, found.by_endpoint) if shown else [],
        **(_team(found.workers.each) if isinstance(found, RunStatus) else {"team": [], "hidden": 0}),
        "hosts": found.hosts if len(found.hosts) > 1 else (),
        "team_words": words.workers(found) if isinstance(found, RunStatus) else "",
        "troubles": troubles_by_part(shown) if shown else [],
        "called": any(one.calls for one in shown.by_endpoint.values()) if shown else False,
        "groups": [group(one, letters, {}) for one in letters[:MOST_GROUPS]],
        "letters": sum(each.letters for each in letters),
        "runs": [(one, words.summary(one)) for one in last_runs],
        "healths": HEALTHS,
    }


def _team(each: Sequence[WorkerNow]) -> dict[str, object]:
    """Return the workers to show with their activity, busy ones first; and how many are `hidden`."""
    first = sorted(each, key=lambda one: not one.calls and one.state == WorkerState.READY)
    shown = [(one, words.doing(one, events=False), words.doing(one, events=True)) for one in first[:MOST_WORKERS]]
    return {"team": shown, "hidden": len(each) - len(shown)}


def _figures(found: Now) -> list[tuple[str, str, str]]:
    """Return the figures of an open run or of the time between two: words, number, and class if it is not 0."""
    team = []
    if isinstance(found, RunStatus):
        counts = words.counts_in_all(found)
        figures = [
            (f"done of {counts.total:,}", counts.completed, ""),
            ("under way", counts.under_way, ""),
            ("waiting", max(0, counts.waiting), "warn" if words.halted(found) else ""),
            *([("items still to take", found.to_take, "")] if found.to_take else []),
            ("failed", counts.failed, "bad"),
            ("carried in", found.counts.carried_over, ""),
            *_expected(found),
            ("calls a minute", round(words.calls_a_minute(found)), ""),
        ]
        team = [("workers ready", f"{words.workers_ready(found):,} of {found.workers.wanted:,}", "")]
    else:
        waiting = found.waiting
        figures = [
            ("items waiting", waiting.events + waiting.staged, ""),
            ("left over", waiting.leftover, "warn"),
            ("dead letters", waiting.failed, "bad"),
            ("workers alive", found.workers, ""),
        ]
    return [*((word, f"{number:,}", kind if number else "") for word, number, kind in figures), *team]


def _expected(found: RunStatus) -> list[tuple[str, int, str]]:
    """Return the figure of the expected leftovers; none before the plan or if the run has halted: nobody knows it."""
    expected = words.expected_of(found)
    if words.halted(found) or not words.is_planned(found) or expected is None:
        return []
    return [("expected to be left over", expected.expected_leftover, "warn")]


def _phases(state: str) -> list[tuple[str, str]]:
    """Return the phases of a run, each with whether it is `past`, `present` or `future`."""
    place = list(PHASES).index(State(state))
    when = ["past"] * place + ["present"] + ["future"] * len(PHASES)
    return [*zip(PHASES.values(), when, strict=False)]


def _types(shown: RunStatus | Record, by_endpoint: Mapping[str, Health]) -> list[dict[str, object]]:
    """Return for each type its counts and its endpoints, with the use of their windows."""
    of_type: dict[str, list[tuple[str, Health]]] = {}
    for name, entry in by_endpoint.items():
        for kind in entry.types:
            of_type.setdefault(kind, []).append((name, entry))
    return [
        {
            "name": name,
            "counts": (counts := words.counts_of(entry)),
            "leftover": max(0, counts.waiting) if isinstance(shown, Record) else 0,
            "waiting": max(0, counts.waiting) if isinstance(shown, RunStatus) else 0,
            "endpoints": of_type.get(name, []),
        }
        for name, entry in shown.by_type.items()
    ]


PAGE: Final = Page("/", "Now", "now.html", context, command="rlm status --follow", label="Now")
