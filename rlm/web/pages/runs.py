"""The page Now, whether everything will be done in time, what will be left, and why; the pages Runs and a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rlm.admin import report, words
from rlm.admin.letters import grouped, letters_of
from rlm.admin.report import course, runs_page
from rlm.core.documents import Record, RunStatus
from rlm.ledger.store import Store
from rlm.web.pages.events import ON_A_PAGE
from rlm.web.pages.page import Page, Query
from rlm.web.pages.plots import run_plot


def _now(store: Store, _question: Query) -> Mapping[str, object]:
    now = report.now(store)
    shown = words.latest(now)
    return {
        "now": now,
        "is_open": isinstance(now, RunStatus),
        "shown": shown,
        "plot": run_plot(shown, course(store, shown)) if shown else None,
        "place": report.installation(store),
        "groups": grouped(letters_of(store)),
        "runs": runs_page(store, 6).records,
    }


def _runs(store: Store, question: Query) -> Mapping[str, object]:
    before, now = question.get("before"), report.now(store)
    page = runs_page(store, ON_A_PAGE, before)
    totals = (each.counts.completed + each.counts.failed + each.counts.leftover for each in page.records)
    return {
        "open": now if isinstance(now, RunStatus) and not before else None,
        "before": before,
        "listed": page,
        "most": max(totals, default=0),
        "none_finished": report.none_finished(store),
    }


def _run(store: Store, question: Query) -> Mapping[str, object]:
    run = report.status_of(store, question.about)
    return {
        "title": f"Run {run.run_id}",
        "run": run,
        "is_open": isinstance(run, RunStatus),
        "decisions": _decisions(run),
        "plot": run_plot(run, course(store, run)),
        "command": f"rlm status {run.run_id}",
    }


def _decisions(run: RunStatus | Record) -> list[tuple[str, list[str]]]:
    """Return what was decided in a run, its result and the reasons: each kind with its sentences."""
    plan_binds = run.plan.binds if run.plan else ""
    decided = [*((name, [what]) for name, what in words.against_plan(run).items()), ("what binds", [plan_binds])]
    if isinstance(run, RunStatus):
        expected = words.forecast(run)
        decided += [
            ("forecast", [expected.words, expected.more if expected.more != plan_binds else ""]),
            ("not well", [*map(words.told, run.conditions)]),
            ("trouble", words.troubles(run)),
        ]
    else:
        wrong, causes = words.troubles(run), len(words.causes(run))
        decided += [("used", [words.used(run)]), ("why", [run.failure, *wrong[:causes]]), ("trouble", wrong[causes:])]
    return [(name, said) for name, sentences in decided if (said := [*filter(None, sentences)])]


NOW: Final = Page("/", "Now", "now.html", _now, "rlm status", "Now")
PAGES: Final = (
    Page("/runs", "Runs", "runs.html", _runs, "rlm list", "Runs"),
    Page("/runs/{run_id}", "A run", "run.html", _run),
)
