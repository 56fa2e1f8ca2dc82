"""What a self-test holds its run against: what the API saw, the record, the dead letters and the books."""

from __future__ import annotations

from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec

from rlm.core.run import State
from rlm.core.text import counted
from rlm.ledger.reading.books import books
from rlm.sandbox.mockapi import exceeded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rlm.sandbox.demo.stage import Stage
    from rlm.sandbox.selftest.items import Batch
    from rlm.sandbox.selftest.steps import Steps

#: What is to be done where a promise was not kept.
_FAULT = "this is a fault of RLM, unless this host is very busy: run it again, and report it with this output"


def judge(stage: Stage, batch: Batch, record: Mapping[str, Any], steps: Steps) -> None:
    """Check, step by step, whether the run of `batch` was as promised."""
    calls, endpoints = len(stage.api.arrivals), len(stage.settings.endpoints)
    steps.judge("events", list(_events(stage, batch)), f"all {len(batch.events)} were completed, each once", _FAULT)
    steps.judge("idempotency", list(_keys(stage, batch)), f"{counted(calls, 'call')}, each with its key", _FAULT)
    within = f"the API refused none, and by its count none of {counted(endpoints, 'endpoint')} got too many"
    steps.judge("limits", list(_limits(stage)), within, _FAULT)
    steps.judge("record", list(_record(batch, record)), "the run's record has them all", _FAULT)
    letters = f"what is no event was set aside, with the reason: {', '.join(batch.letters)}"
    steps.judge("dead letters", list(_letters(stage, batch)), letters, _FAULT)
    steps.judge("books", list(_books(stage)), "they balance, and nothing is left in the ledger", _FAULT)


def _events(stage: Stage, batch: Batch) -> Iterator[str]:
    arrived = Counter(one.event_id for one in stage.api.arrivals if one.accepted)
    if missing := batch.events - arrived.keys():
        yield f"{counted(len(missing), 'event')} never reached the API"
    answered = {one.event_id for one in stage.api.arrivals if one.status == HTTPStatus.OK}
    if failed := (batch.events & arrived.keys()) - answered:
        yield f"{counted(len(failed), 'event')} reached the API in vain: it did not answer with success"
    if doubled := sum(number > 1 for number in arrived.values()):
        yield f"{counted(doubled, 'event')} reached the API more than once"
    if strange := arrived.keys() - batch.events - {None}:
        yield f"{counted(len(strange), 'event')} reached the API that nobody pushed"


def _keys(stage: Stage, batch: Batch) -> Iterator[str]:
    if wrong := sum(one.event_id not in batch.events for one in stage.api.arrivals):
        yield f"{counted(wrong, 'call')} had no Idempotency-Key, or a wrong one"


def _limits(stage: Stage) -> Iterator[str]:
    if refused := sum(one.refused for one in stage.api.summary().values()):
        yield f"the API refused {counted(refused, 'call')}"
    yield from exceeded(stage.api.arrivals, stage.settings.endpoints.values())


def _record(batch: Batch, record: Mapping[str, Any]) -> Iterator[str]:
    if record["state"] != State.COMPLETED:
        yield f"the run ended {record['state']} ({record.get('failure', 'no failure is on record')})"
    events = len(batch.events)
    expected = {
        "taken": events,
        "carried_over": 0,
        "completed": events,
        "failed": 0,
        "leftover": 0,
        "duplicates": batch.duplicates,
        "invalid": len(batch.letters),
    }
    for what, number in expected.items():
        if record["counts"][what] != number:
            yield f"{what} is {record['counts'][what]}, not {number}"


def _letters(stage: Stage, batch: Batch) -> Iterator[str]:
    found = Counter(msgspec.json.decode(raw)["reason"] for raw in stage.store.letters.all())
    if found != Counter(str(reason) for reason in batch.letters):
        there = ", ".join(f"{number} {reason}" for reason, number in sorted(found.items())) or "none"
        yield f"there are {there}, not one each of {', '.join(batch.letters)}"


def _books(stage: Stage) -> Iterator[str]:
    found = books(stage.store)
    yield from found.faults
    if found.unsettled:
        yield f"{counted(found.unsettled, 'event')} are left in the ledger"
    if found.events or found.staged:
        yield f"{found.events} items are left on the list, {found.staged} in staging"
