"""`rlm queue list` and `drop`: waiting events one by one and page by page; unwanted leftovers."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from rlm.ledger import waiting
from tests.store import looks, steps


def listed(inst, *how):
    return {one["event_id"]: one["state"] for one in inst.json("queue", "list", *how)["events"]}


def leave_over(inst, *items):
    """Let a run leave items over."""
    inst.push(*items)
    inst.close_run(inst.start_run())


def test_every_state_in_which_an_event_waits_is_listed(inst):
    """What is under way or settled is not."""
    inst.push(*steps.items(5, steps.TYPE))
    inst.start_run(600)
    claims = [steps.claim(inst.store) for _ in range(3)]
    steps.fail(inst.store, claims[0], "backoff", delay_us=60_000_000)
    steps.fail(inst.store, claims[1], "spent")
    inst.push(steps.item("new", steps.TYPE, steps.OTHER_TYPE, priority=7), b"no JSON")

    assert listed(inst) == {
        steps.event_id(4): "pending",
        steps.event_id(5): "pending",
        steps.event_id(1): "backing_off",
        steps.event_id(2): "spent",
        f"new:{steps.TYPE}": "queued",
        f"new:{steps.OTHER_TYPE}": "queued",
    }
    (backing_off,) = inst.json("queue", "list", "--state", "backing_off")["events"]
    assert 50 < backing_off["due_in_seconds"] <= 90
    assert inst.json("queue", "list", "--item", "new")["events"][0]["priority"] == 7


def test_events_are_chosen_by_type_wallet_item_and_age(inst):
    """All that is asked for must fit; the age is by the item's timestamp, else by its arrival."""
    old = (datetime.now(UTC) - timedelta(hours=3)).isoformat()
    leave_over(
        inst,
        steps.item("a", steps.TYPE, steps.OTHER_TYPE, timestamp=old),
        steps.item("b", steps.TYPE, wallet_name="Wället"),
    )
    inst.push(steps.item("c", steps.TYPE, wallet_name="Wället"))

    a, a_other, b, c = f"a:{steps.TYPE}", f"a:{steps.OTHER_TYPE}", f"b:{steps.TYPE}", f"c:{steps.TYPE}"
    assert set(listed(inst)) == {a, a_other, b, c}
    assert set(listed(inst, "--type", steps.OTHER_TYPE)) == {a_other}
    assert set(listed(inst, "--wallet", "Wället")) == {b, c}
    assert set(listed(inst, "--wallet", "Wället", "--state", "leftover")) == {b}
    assert set(listed(inst, "--item", "a")) == {a, a_other}
    assert set(listed(inst, "--older-than", "2h")) == {a, a_other}
    assert listed(inst, "--older-than", "4h") == {}
    assert "No such event is waiting" in inst.rlm("queue", "list", "--wallet", "nobody").stdout


@pytest.mark.parametrize("page", [1, 2, 3, 7])
def test_pages_hold_every_event_once_in_order(inst, monkeypatch, page):
    """Across types, states and lists, also within an item of several types and where many have the same score."""
    monkeypatch.setattr(waiting, "PAGE", 2)
    inst.push(*steps.items(4, steps.TYPE, steps.OTHER_TYPE))
    inst.start_run(600)
    backing_off = {f"e{number}:{steps.TYPE}": 5 for number in range(5)}
    inst.store.client.zadd(inst.store.keys.due, {f"later {one}": at for one, at in backing_off.items()})
    for one in backing_off:
        inst.store.client.hset(inst.store.keys.event(one), mapping={"item": b"{}", "wallet": "w", "score": "0"})
    inst.push(*steps.items(3, steps.TYPE, steps.OTHER_TYPE, first=7))
    whole = list(listed(inst, "1000"))
    assert len(whole) == 8 + 5 + 6

    found, after = [], []
    while True:
        document = inst.json("queue", "list", str(page), *after)
        found += [one["event_id"] for one in document["events"]]
        if document["next"] is None:
            break
        after = ["--after", str(document["next"])]

    assert found == whole


# -- drop


def test_leftovers_are_dropped_by_the_same_filters(inst):
    """Counted and asked for first; what is queued stays."""
    leave_over(inst, *steps.items(3, steps.TYPE), steps.item("x", steps.TYPE, wallet_name="w"))
    inst.push(steps.item("y", steps.TYPE, wallet_name="w"))

    assert inst.json("queue", "drop", "--wallet", "w", "--dry-run") == {"dropped": 0, "would_be_dropped": 1}
    said = inst.rlm("queue", "drop", "--wallet", "w", input="n\n", code=1).stderr
    assert "Drop 1 leftover event for good?" in said
    assert "Nothing was changed" in said
    assert len(listed(inst)) == 5
    assert inst.json("queue", "drop", "--wallet", "w", "--yes") == {"dropped": 1}

    assert set(listed(inst)) == {*steps.event_ids(3), f"y:{steps.TYPE}"}
    assert "3 leftover events dropped" in inst.rlm("queue", "drop", "--all", "--yes").stdout
    assert inst.json("queue", "drop", "--all") == {"dropped": 0}
    assert "books_unbalanced" not in {one["code"] for one in inst.json("doctor", code=1)["conditions"]}


def test_a_run_that_opens_while_somebody_is_asked_has_them(inst, monkeypatch):
    """None is taken from its books, and that is told."""
    leave_over(inst, *steps.items(3, steps.TYPE))
    monkeypatch.setattr("rlm.cli.queue.confirm", lambda *_words: inst.start_run())

    done = inst.rlm("queue", "drop", "--all", "--json", code=1)

    assert json.loads(done.stdout) == {"dropped": 0}
    assert "A run was opened meanwhile" in done.stderr
    assert looks.counts(inst.store).pending == 3
