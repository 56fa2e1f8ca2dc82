"""The pages Runs, a run, and two runs compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlm.admin import report, words
from rlm.admin.runs import RunFilter, compare, course, runs_page
from rlm.admin.unwell import unwell
from rlm.admin.verdict import against_plan, call_troubles, troubles, troubles_by_part, used
from rlm.core.clock import system_clock
from rlm.core.errors import NoSuchRunError
from rlm.core.run import MOVES, State, Trigger
from rlm.core.text import counted, span
from rlm.ledger import Store
from rlm.web.pages.live import Documents
from rlm.web.pages.page import ListFilter, Page, Query, address
from rlm.web.pages.run_plot import plot

#: Runs on a page of the list.
ON_A_PAGE = 50
#: The parts of a run's bar.
_PARTS = ("completed", "failed", "leftover")
#: The states of finished runs.
STATES = tuple(str(one) for one in State if one not in MOVES)
#: Figures of a comparison of which less is always better.
LESS = frozenset({"failed", "left over", "errors", "throttled", "invalid"})


def list_context(documents: Documents, question: Query) -> Mapping[str, Any]:
    """Return the values of the list of runs."""
    asked = ListFilter("/runs", question)
    states, triggers = asked.choices("state", STATES), asked.choices("trigger", tuple(Trigger))
    since, text, before = asked.ago("since"), asked.text("search"), question.get("before")

    def find(store: Store) -> dict[str, Any]:
        since_time = since and system_clock.now() - since
        return runs_page(store, RunFilter(states, triggers, since_time, text), ON_A_PAGE, before)

    found = {"runs": [], "next": None} if asked.faults else documents.get(("runs", question.query), find)
    return {
        "asked": asked,
        "states": STATES,
        "triggers": tuple(Trigger),
        "runs": [(one, told_of(one)) for one in found["runs"]],
        "most": max((sum(map(one["counts"].get, _PARTS)) for one in found["runs"]), default=0),
        "open": None if before or asked.given else _open(documents.status()),
        "older": asked.address(before=found["next"]) if found["next"] else "",
        "newest": asked.address() if before else "",
        "none_finished": documents.get("none_finished", report.none_finished),
        "compare": _comparison(*(one["run_id"] for one in found["runs"][1::-1])) if found["runs"][1:] else "",
        "command": f"rlm list {ON_A_PAGE}{asked.options(before=before)}",
    }


def told_of(record: Mapping[str, Any]) -> str:
    """Return in a sentence what went wrong in a run; empty if nothing did."""
    wrong, dead = troubles_by_part(record), record["counts"]["failed"] + record["counts"]["invalid"]
    return record.get("failure") or (wrong[0][0] if wrong else counted(dead, "dead letter") if dead else "")


def _open(status: Mapping[str, Any]) -> tuple[Mapping[str, Any], words.Counted, str] | None:
    return (status, words.counts_in_all(status), words.forecast(status).words) if words.is_open(status) else None


def _comparison(first: str, second: str) -> str:
    """Return the address of the comparison of two runs."""
    return address("/runs/compare", {"a": [first], "b": [second]})


def context(documents: Documents, question: Query) -> Mapping[str, Any]:
    """Return the values of the page of a run, open or on record."""
    asked = question.get("run_id")

    def find(store: Store) -> tuple[dict[str, Any], dict[str, Any]]:
        found = report.status(store, report.find_run(store, asked))
        return found, course(store, found)

    found, events = documents.get(("run", asked), find)
    run_id, is_open = found["run_id"], words.is_open(found)
    return {
        "title": f"Run {run_id}",
        "found": found,
        "is_open": is_open,
        "all": words.counts_in_all(found),
        "summary": words.progress(found) if is_open else words.summary(found),
        "decisions": decisions(found, is_open=is_open),
        "course": events,
        "plot": plot(found, events),
        "json": f"/api/runs/{run_id}",
        "before": "" if is_open else documents.get(("before", run_id), lambda store: _before(store, run_id)),
        "command": f"rlm {'status' if is_open else 'result'} {run_id}",
    }


def decisions(found: Mapping[str, Any], *, is_open: bool) -> list[tuple[str, list[str]]]:
    """Return what was decided in a run, its result and the reasons: each kind with its sentences."""
    told = [(name, [one]) for name, one in against_plan(found).items()]
    told += [("what binds", [plan_binds])] if (plan_binds := (found["plan"] or {}).get("binds")) else []
    if is_open:
        expected = words.forecast(found)
        binds = [] if expected.binds == plan_binds else [expected.binds]
        told += [("forecast", [expected.words, *filter(None, binds)])]
        return [*told, ("not well", unwell(found)), ("calls", call_troubles(found))]
    wrong, causes = troubles(found), len(found.get("why", ()))
    failure = [found["failure"]] if found.get("failure") else []
    use = [*filter(None, [used(found)])]
    return [*told, ("used", use), ("why", [*failure, *wrong[:causes]]), ("trouble", wrong[causes:])]


def _before(store: Store, run_id: str) -> str:
    """Return the address of the comparison with the run before; empty if there is none."""
    page = runs_page(store, RunFilter(), 1, run_id)["runs"]
    return _comparison(page[0]["run_id"], run_id) if page else ""


def compare_context(documents: Documents, question: Query) -> Mapping[str, Any]:
    """Return the values of the comparison of two runs; raise NoSuchRunError if one is missing, unknown or open."""
    names = {name: question.get(name) for name in ("a", "b")}
    for name, asked in names.items():
        if not asked:
            raise NoSuchRunError(f"The address does not say which run is {name}: /runs/compare?a=RUN&b=RUN")
    records = [_record(documents, asked) for asked in names.values()]
    found = compare(*records)
    parts = {name: figures(rows) for name, rows in [*found["by_type"].items(), *found["by_endpoint"].items()]}
    differing = {name: [one for one in rows if one["difference"] not in {"", "same"}] for name, rows in parts.items()}
    return {
        "records": [(record, words.summary(record)) for record in records],
        "why": [troubles(record) for record in records],
        "in_all": figures(found["in_all"]),
        "parts_that_differ": [(name, rows) for name, rows in differing.items() if rows],
        "swapped": _comparison(names["b"], names["a"]),
        "command": f"rlm result {records[1]['run_id']}",
    }


def _record(documents: Documents, asked: str) -> dict[str, Any]:
    return documents.get(("record", asked), lambda store: report.record(store, report.find_run(store, asked)))


def figures(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return rows of a comparison in words, without those that neither record has."""
    return [_words(one) for one in rows if one["a"] is not None or one["b"] is not None]


def _words(row: Mapping[str, Any]) -> dict[str, str]:
    difference, unit = row["difference"], row["unit"]
    told = {"what": row["what"], "a": _figure(row["a"], unit), "b": _figure(row["b"], unit)}
    told |= {"difference": "", "kind": ""}
    if difference is None:
        return told
    size = _figure(abs(difference), unit)
    if size == _figure(0, unit):
        return {**told, "difference": "same"}
    kind = "better" if difference < 0 else "worse"
    sign = "+" if difference > 0 else "\N{MINUS SIGN}"
    return {**told, "difference": f"{sign}{size}", "kind": kind if row["what"] in LESS else ""}


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return "\N{EN DASH}"
    return span(value) if unit == "s" else {"%": "{:.0%}", "ms": "{:,.0f} ms"}.get(unit, "{:,}").format(value)


PAGES = (
    Page("/runs", "Runs", "runs.html", list_context, command="rlm list", label="Runs"),
    Page("/runs/compare", "Two runs compared", "compare.html", compare_context, command="rlm result"),
    Page("/runs/{run_id}", "A run", "run.html", context, command="rlm result"),
)
