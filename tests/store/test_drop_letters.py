"""Dropping a dead letter: it is removed for good, and its event forgotten."""

from __future__ import annotations

import json

from rlm.admin.letters import Deal, LetterFilter, deal_with
from rlm.core.item import Reason, encode_letter
from tests.store import looks, steps
from tests.store.deadletters import close, drop, reject, reject_at_intake

EVENT = f"i1:{steps.TYPE}"


def test_an_event_that_is_under_way_again_is_not_forgotten(make_store, token):
    """Where the same id was taken anew after its dedupe time, only the old letter goes."""
    store = make_store(queue={"dedupe_seconds": 0})
    steps.push(store, steps.item("i1", steps.TYPE))
    run = steps.start_run(store, token)
    letter = reject(store)
    close(store, token, run)
    steps.push(store, steps.item("i1", steps.TYPE))
    run = steps.start_run(store, token)

    assert drop(store, letter)

    assert looks.letters(store) == []
    assert steps.claim(store).event_id == EVENT


def test_a_letter_does_not_take_another_events_memory_with_it(store, token, running):
    """`i1` with the unknown type `x:TYPE` is not `i1:x` with the type TYPE, whatever id a letter names."""
    steps.push(store, steps.item("i1:x", steps.TYPE))
    run = steps.start_run(store, token)
    assert steps.complete(store, steps.claim(store))
    close(store, token, run)
    letter = reject_at_intake(store, token, steps.item("i1", f"x:{steps.TYPE}"))
    older = json.dumps({**json.loads(letter), "event_id": f"i1:x:{steps.TYPE}"}).encode()  # as RLM wrote them once
    store.client.lpush(store.keys.failed, older)

    assert drop(store, letter)
    assert drop(store, older)

    assert looks.letters(store) == []
    assert looks.event(store, f"i1:x:{steps.TYPE}")["state"] == "completed"


def test_a_search_drops_what_it_lists(store):
    """One letter was dropped that the count before had left out, and one kept instead."""
    for item, why in (
        (b'[{"id":"x"}]', Reason.NOT_OBJECT),
        (b'{"id":1}', Reason.WRONG_TYPE),
        (b"[1]", Reason.NOT_OBJECT),
    ):
        detail = '"id" is no text' if why is Reason.WRONG_TYPE else "an array"
        store.client.lpush(store.keys.failed, encode_letter(item, why, detail, failed_at=1.0, run_id=None, event=None))
    chosen = LetterFilter(text='"id"')
    listed = [json.loads(one)["id"] for one in chosen.find(store)]

    assert deal_with(store, Deal.DROP, chosen, 100).dropped == (*listed[::-1],)
    assert len(listed) == 2
