"""The page What if: the planner's answer to a question that one drags, and what the last runs would have left over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlm.admin.planning import types_in_force
from rlm.admin.question import answer, read_question, replayed
from rlm.admin.verdict import side_by_side, verdict_on
from rlm.admin.words import clock
from rlm.core.clock import isoformat
from rlm.core.errors import BadQuestionError, ConfigurationError
from rlm.core.run import started_at_of
from rlm.ledger.reading.backlog import backlog
from rlm.settings import load_settings
from rlm.web.pages.outlook import GAP, outlook_values
from rlm.web.pages.page import Page
from rlm.web.pages.plots import Column
from rlm.web.pages.whatif_form import REPLAYS, Form, read_form

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rlm.admin.question import PlanAsk
    from rlm.admin.replay import Replay
    from rlm.ledger import Store
    from rlm.settings import Settings
    from rlm.web.pages.documents import Documents
    from rlm.web.pages.page import Query

#: How long an answer is shared, seconds: a plan, for what waits now, and one of records, which change once a run.
_PLAN_SECONDS, _REPLAY_SECONDS = 5.0, 30.0


def context(documents: Documents, question: Query) -> Mapping[str, Any]:
    """Return what the page shows: the form, and the answers unless it cannot be asked."""
    form = documents.get(("what if", question.query), lambda store: _form(store, question), _PLAN_SECONDS)
    shown: dict[str, Any] = {"form": form, "faults": form.faults, "replays": REPLAYS}
    shown |= {"answer": None, "replay": None}
    if form.faults:
        return shown
    try:
        found = documents.get(("plan", question.query), lambda store: _answer(store, form.asked), _PLAN_SECONDS)
        past = documents.get(("replay", question.query), lambda store: _replay(store, form), _REPLAY_SECONDS)
    except (BadQuestionError, ConfigurationError) as error:
        return shown | {"faults": str(error).splitlines()}
    return shown | {"answer": found, "replay": past}


def _form(store: Store, question: Query) -> Form:
    last = next(iter(store.runs.recent(1)), None)
    events = {name: one["taken"] + one["carried_over"] for name, one in last["by_type"].items()} if last else {}
    return read_form(question, store.settings, types_in_force(store), backlog(store).events, events)


def _answer(store: Store, asked: PlanAsk) -> Mapping[str, Any]:
    question = read_question(store.settings, asked)
    found = answer(store, question)
    today, last = found.forecasts[0], found.forecasts[-1]
    changed, outlooks = last is not today, [one.outlook for one in found.forecasts if one.outlook]
    return {
        "verdict": verdict_on(last),
        "today": verdict_on(today) if changed else None,
        "assumptions": last.case.assumptions,
        "rows": list(side_by_side(*found.forecasts)),
        "forecasts": found.forecasts,
        "window_seconds": last.case.settings.run.window_seconds,
        "remarks": [*question.remarks(), *_edited(store.settings, asked)],
        "outlooks": outlook_values(*outlooks) if any(one.windows for one in outlooks) else None,
        "command": asked.command,
    }


def _edited(settings: Settings, asked: PlanAsk) -> Iterator[str]:
    """Yield that the file is not what `rlm web` has read: a setting is asked for in addition to what it has now."""
    if asked.told and load_settings(settings.source).shown != settings.shown:
        yield "The configuration has changed since rlm web started: what if goes by the file as it is now."


def _replay(store: Store, form: Form) -> Mapping[str, Any]:
    asked = form.of_runs
    found = replayed(store, read_question(store.settings, asked), form.replay)
    ends = [_clock(one.run_id) for one in (*found.runs[:1], *found.runs[-1:])]
    return {"found": found, "columns": _runs(found), "ends": ends, "command": asked.command}


def _clock(run_id: str) -> str:
    """Return the time of day in a run's id."""
    began_at = started_at_of(run_id)
    return run_id if began_at is None else f"{clock(isoformat(began_at))} UTC"


def _runs(found: Replay) -> Sequence[Column]:
    """Return columns for each run: what it left over then, in the replay, and as it might have been."""
    drawn = []
    for one in found.runs:
        each = [("recorded", one.recorded, "wait"), ("replayed", one.unchanged, "left")]
        each += [("what if", one.what_if, "busy")] if one.what_if else []
        drawn += [
            Column(f"{one.run_id}, {name}: {run.leftover:,} of {run.events:,} left over", [(run.leftover, kind)])
            for name, run, kind in each
        ]
        drawn.append(GAP)
    return drawn


PAGE = Page("/whatif", "What if", "whatif.html", context, label="What if")
