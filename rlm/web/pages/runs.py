"""The page Now, whether everything will be done in time, what will be left, and why; the pages Runs and a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rlm.admin import report, words
from rlm.admin.letters import grouped
from rlm.admin.report import course, runs_page
from rlm.admin.words import against_plan, call_troubles, troubles, used, verdict
from rlm.core.documents import EndpointView, Now, Record, RunStatus, Worker
from rlm.core.run import State
from rlm.ledger.processes import WorkerState
from rlm.ledger.store import Store
from rlm.web.pages.events import ON_A_PAGE, group
from rlm.web.pages.page import Page, Query, address
from rlm.web.pages.plots import run_plot

_PHASES: Final = {State.DRAINING: "drain", State.PLANNING: "plan", State.RUNNING: "run", State.FINISHING: "finish"}


def _now(store: Store, _question: Query) -> Mapping[str, object]:
    now = report.now(store)
    run = now if isinstance(now, RunStatus) else None
    shown = now if isinstance(now, RunStatus) else now.last_record
    letters = grouped(store.letters.all())
    when = ["past"] * list(_PHASES).index(State(run.state)) + ["present"] + ["future"] * len(_PHASES) if run else []
    return {
        "now": now,
        "is_open": run is not None,
        "verdict": verdict(now),
        "conditions": now.conditions,
        "halted": words.halted(now),
        "place": report.installation(store),
        "phases": [*zip(_PHASES.values(), when, strict=False)],
        "figures": _figures(now),
        "plot": run_plot(shown, course(store, shown), 300) if shown else None,
        "run_id": shown.run_id if shown else "",
        "plan": against_plan(shown) if shown else {},
        "types": _types(shown, now.endpoints) if shown else [],
        **_team(run.workers.each if run else ()),
        "hosts": now.hosts if len(now.hosts) > 1 else (),
        "team_words": words.workers(run) if run else f"{now.workers:,} alive",
        "troubles": troubles(shown) if shown else [],
        "called": shown is not None and any(each.calls for each in shown.by_endpoint.values()),
        "groups": [group(each, letters, {}) for each in letters[:5]],
        "letters": sum(each.letters for each in letters),
        "runs": [(record, words.summary(record)) for record in runs_page(store, 6).records],
    }


def _team(workers: Sequence[Worker]) -> dict[str, object]:
    """Return the workers to show with their activity, busy ones first; and how many are `hidden`."""
    first = sorted(workers, key=lambda worker: not worker.calls and worker.state == WorkerState.READY)[:10]
    return {"team": [(worker, words.doing(worker)) for worker in first], "hidden": len(workers) - len(first)}


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
    else:
        counts, halted, expected = words.counts_in_all(now), words.halted(now), now.forecast
        figures = [
            (f"done of {counts.total:,}", counts.completed, ""),
            ("under way", counts.under_way, ""),
            ("waiting", max(0, counts.waiting), "warn" if halted else ""),
            *([("items still to take", now.to_take, "")] if now.to_take else []),
            ("failed", counts.failed, "bad"),
            ("carried in", now.counts.carried_over, ""),
        ]
        if expected is not None and not halted:  # otherwise nobody knows
            figures.append(("expected to be left over", expected.expected_leftover, "warn"))
        figures.append(("calls a minute", round(words.calls_a_minute(now)), ""))
    shown = [(word, f"{number:,}", kind if number else "") for word, number, kind in figures]
    if isinstance(now, RunStatus):
        shown.append(("workers ready", f"{now.workers.ready:,} of {now.workers.wanted:,}", ""))
    return shown


def _types(shown: RunStatus | Record, limited: Mapping[str, EndpointView]) -> list[dict[str, object]]:
    """Return for each type its counts and its endpoints, with the use of their windows."""
    waits_in = "leftover" if isinstance(shown, Record) else "waiting"
    rows = []
    for name, entry in shown.by_type.items():
        counts = words.counts_of(entry)
        endpoints = [(end, health) for end, health in limited.items() if name in health.types]
        waiting = {"leftover": 0, "waiting": 0} | {waits_in: max(0, counts.waiting)}
        rows.append({"name": name, "counts": counts, **waiting, "endpoints": endpoints})
    return rows


def _runs(store: Store, question: Query) -> Mapping[str, object]:
    before, now = question.get("before"), report.now(store)
    page = runs_page(store, ON_A_PAGE, before)
    opened = isinstance(now, RunStatus) and not before and (now, words.counts_in_all(now), words.forecast(now).words)
    totals = (each.counts.completed + each.counts.failed + each.counts.leftover for each in page.records)
    return {
        "runs": [(record, record.failure or next(iter(troubles(record)), "")) for record in page.records],
        "most": max(totals, default=0),
        "open": opened,
        "older": address("/runs", {"before": [page.next]}) if page.next else "",
        "newest": "/runs" if before else "",
        "none_finished": report.none_finished(store),
    }


def _run(store: Store, question: Query) -> Mapping[str, object]:
    run = report.status_of(store, report.find_run(store, question.about) or question.about)
    is_open = isinstance(run, RunStatus)
    return {
        "title": f"Run {run.run_id}",
        "run": run,
        "is_open": is_open,
        "all": words.counts_in_all(run),
        "summary": words.progress(run) if isinstance(run, RunStatus) else words.summary(run),
        "decisions": _decisions(run),
        "plot": run_plot(run, course(store, run)),
        "command": f"rlm status {run.run_id}",
    }


def _decisions(run: RunStatus | Record) -> list[tuple[str, list[str]]]:
    """Return what was decided in a run, its result and the reasons: each kind with its sentences."""
    plan_binds = run.plan.binds if run.plan else ""
    decided = [*((name, [words]) for name, words in against_plan(run).items()), ("what binds", [plan_binds])]
    if isinstance(run, RunStatus):
        expected = words.forecast(run)
        decided += [
            ("forecast", [expected.words, expected.more if expected.more != plan_binds else ""]),
            ("not well", [*map(words.told, run.conditions)]),
            ("calls", call_troubles(run)),
        ]
    else:
        wrong, causes = troubles(run), len(run.why)
        decided += [("used", [used(run)]), ("why", [run.failure or "", *wrong[:causes]]), ("trouble", wrong[causes:])]
    return [(name, said) for name, sentences in decided if (said := [*filter(None, sentences)])]


NOW: Final = Page("/", "Now", "now.html", _now, "rlm status", "Now")
PAGES: Final = (
    Page("/runs", "Runs", "runs.html", _runs, "rlm list", "Runs"),
    Page("/runs/{run_id}", "A run", "run.html", _run),
)
