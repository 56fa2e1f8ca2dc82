"""The pages Runs and a run."""

from __future__ import annotations

from collections.abc import Mapping

from rlm.admin import report, words
from rlm.admin.runs import course, runs_page
from rlm.admin.words import against_plan, call_troubles, troubles, used
from rlm.core.documents import Record, RunCourse, RunStatus
from rlm.ledger.store import Store
from rlm.web.pages.live import Documents
from rlm.web.pages.page import Page, Query, address
from rlm.web.pages.run_plot import plot

#: Runs on a page of the list.
ON_A_PAGE = 50


def list_context(documents: Documents, question: Query) -> Mapping[str, object]:
    """Return the values of the list of runs."""
    before, now = question.get("before"), documents.status()
    page = documents.get(("runs", before), lambda store: runs_page(store, ON_A_PAGE, before))
    opened = isinstance(now, RunStatus) and not before and (now, words.counts_in_all(now), words.forecast(now).words)
    totals = (each.counts.completed + each.counts.failed + each.counts.leftover for each in page.records)
    return {
        "runs": [(record, what_went_wrong(record)) for record in page.records],
        "most": max(totals, default=0),
        "open": opened,
        "older": address("/runs", {"before": [page.next]}) if page.next else "",
        "newest": "/runs" if before else "",
        "none_finished": documents.get("none_finished", report.none_finished),
        "command": f"rlm list {ON_A_PAGE}",
    }


def what_went_wrong(record: Record) -> str:
    """Return in a sentence what went wrong in a run; empty if nothing did."""
    return record.failure or next(iter(troubles(record)), "")


def read_run(documents: Documents, name: str) -> tuple[RunStatus | Record, RunCourse]:
    """Return the record of a run, or its status while it is open, and its course."""

    def read(store: Store) -> tuple[RunStatus | Record, RunCourse]:
        run = report.status(store, report.find_run(store, name) or name)
        return run, course(store, run)

    return documents.get(("run", name), read)


def context(documents: Documents, question: Query) -> Mapping[str, object]:
    """Return the values of the page of a run, open or on record."""
    run, events = read_run(documents, question.about)
    is_open = isinstance(run, RunStatus)
    return {
        "title": f"Run {run.run_id}",
        "run": run,
        "is_open": is_open,
        "all": words.counts_in_all(run),
        "summary": words.progress(run) if isinstance(run, RunStatus) else words.summary(run),
        "decisions": decisions(run),
        "plot": plot(run, events),
        "command": f"rlm {'status' if is_open else 'result'} {run.run_id}",
    }


def decisions(run: RunStatus | Record) -> list[tuple[str, list[str]]]:
    """Return what was decided in a run, its result and the reasons: each kind with its sentences."""
    decided = [(name, [words]) for name, words in against_plan(run).items()]
    decided += [("what binds", [plan_binds])] if (plan_binds := run.plan and run.plan.binds) else []
    if isinstance(run, RunStatus):
        expected = words.forecast(run)
        binds = [expected.binds] if expected.binds not in {"", plan_binds} else []
        decided += [
            ("forecast", [expected.words, *binds]),
            ("not well", [*map(words.told, run.conditions)]),
            ("calls", call_troubles(run)),
        ]
        return decided
    wrong, causes = troubles(run), len(run.why)
    failure = [run.failure] if run.failure else []
    use = [*filter(None, [used(run)])]
    return [*decided, ("used", use), ("why", [*failure, *wrong[:causes]]), ("trouble", wrong[causes:])]


PAGES = (
    Page("/runs", "Runs", "runs.html", list_context, command="rlm list", label="Runs"),
    Page("/runs/{run_id}", "A run", "run.html", context, command="rlm result"),
)
