"""The pages Runs and a run."""

from __future__ import annotations

from collections.abc import Mapping

from rlm.admin import report, words
from rlm.admin.runs import RunFilter, RunPage, course, runs_page
from rlm.admin.unwell import unwell
from rlm.admin.verdict import against_plan, call_troubles, troubles, troubles_by_part, used
from rlm.core.clock import system_clock
from rlm.core.documents import Now, Record, RunCourse, RunStatus
from rlm.core.run import MOVES, State
from rlm.core.text import counted
from rlm.ledger.store import Store
from rlm.web.pages.live import Documents
from rlm.web.pages.page import ListFilter, Page, Query
from rlm.web.pages.run_plot import plot

#: Runs on a page of the list.
ON_A_PAGE = 50
#: The parts of a run's bar.
_PARTS = ("completed", "failed", "leftover")
#: The states of finished runs.
STATES = tuple(str(one) for one in State if one not in MOVES)


def list_context(documents: Documents, question: Query) -> Mapping[str, object]:
    """Return the values of the list of runs."""
    asked = ListFilter("/runs", question)
    states, since, before = asked.choices("state", STATES), asked.ago("since"), question.get("before")

    def find(store: Store) -> RunPage:
        since_time = since and system_clock.now() - since
        return runs_page(store, RunFilter(states, since_time), ON_A_PAGE, before)

    found = RunPage([], None) if asked.faults else documents.get(("runs", question.query), find)
    return {
        "asked": asked,
        "states": STATES,
        "runs": [(one, told_of(one)) for one in found.records],
        "most": max((sum(getattr(one.counts, part) for part in _PARTS) for one in found.records), default=0),
        "open": None if before or asked.given else _open(documents.status()),
        "older": asked.address(before=found.next) if found.next else "",
        "newest": asked.address() if before else "",
        "none_finished": documents.get("none_finished", report.none_finished),
        "command": f"rlm list {ON_A_PAGE}{asked.options(before=before)}",
    }


def told_of(record: Record) -> str:
    """Return in a sentence what went wrong in a run; empty if nothing did."""
    wrong, dead = troubles_by_part(record), record.counts.failed + record.counts.invalid
    return record.failure or (wrong[0][0] if wrong else counted(dead, "dead letter") if dead else "")


def _open(status: Now) -> tuple[RunStatus, words.Counted, str] | None:
    if not isinstance(status, RunStatus):
        return None
    return status, words.counts_in_all(status), words.forecast(status).words


def read_run(documents: Documents, asked: str) -> tuple[RunStatus | Record, RunCourse]:
    """Return the record of a run, or its status while it is open, and its course."""

    def find(store: Store) -> tuple[RunStatus | Record, RunCourse]:
        found = report.status(store, report.find_run(store, asked) or asked)
        return found, course(store, found)

    return documents.get(("run", asked), find)


def context(documents: Documents, question: Query) -> Mapping[str, object]:
    """Return the values of the page of a run, open or on record."""
    asked = question.get("run_id")

    found, events = read_run(documents, asked)
    run_id, is_open = found.run_id, isinstance(found, RunStatus)
    return {
        "title": f"Run {run_id}",
        "found": found,
        "is_open": is_open,
        "all": words.counts_in_all(found),
        "summary": words.progress(found) if isinstance(found, RunStatus) else words.summary(found),
        "decisions": decisions(found),
        "course": events,
        "plot": plot(found, events),
        "json": f"/api/runs/{run_id}",
        "command": f"rlm {'status' if is_open else 'result'} {run_id}",
    }


def decisions(found: RunStatus | Record) -> list[tuple[str, list[str]]]:
    """Return what was decided in a run, its result and the reasons: each kind with its sentences."""
    told = [(name, [one]) for name, one in against_plan(found).items()]
    told += [("what binds", [plan_binds])] if (plan_binds := found.plan and found.plan.binds) else []
    if isinstance(found, RunStatus):
        expected = words.forecast(found)
        binds = [] if expected.binds == plan_binds else [expected.binds]
        told += [("forecast", [expected.words, *filter(None, binds)])]
        return [*told, ("not well", unwell(found)), ("calls", call_troubles(found))]
    wrong, causes = troubles(found), len(found.why)
    failure = [found.failure] if found.failure else []
    use = [*filter(None, [used(found)])]
    return [*told, ("used", use), ("why", [*failure, *wrong[:causes]]), ("trouble", wrong[causes:])]


PAGES = (
    Page("/runs", "Runs", "runs.html", list_context, command="rlm list", label="Runs"),
    Page("/runs/{run_id}", "A run", "run.html", context, command="rlm result"),
)
