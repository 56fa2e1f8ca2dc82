"""`rlm queue`: numbers, pushing, waiting events page by page, unwanted leftovers; on a real server."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from rlm.admin import queue
from rlm.admin.queue import READABLE_BYTES
from tests.store import looks, steps

#: A moment in 2023 that items tell, and seconds since then at least.
THEN = "2023-12-21T14:30:25.123Z"
LONG_AGO = 60_000_000


def test_while_a_run_is_open_its_events_are_processing(inst):
    """Whatever state they are in, until they are settled; `leftover` is 0 meanwhile, and the age is the timestamp's."""
    inst.push(*[steps.item(f"i{index}", steps.TYPE, timestamp=THEN) for index in range(6)])
    inst.start_run()
    first, second = (steps.claim(inst.store) for _ in range(2))
    steps.complete(inst.store, first)
    steps.fail(inst.store, second, "backoff", delay_us=60_000_000)
    steps.claim(inst.store)
    inst.push(steps.item("next", steps.TYPE))

    found = inst.json("queue", "stats")

    assert (found["events"], found["processing"], found["leftover"]) == (1, 5, 0)
    assert found["by_type"][steps.TYPE]["pending"] == 6
    assert found["by_type"][steps.TYPE]["oldest_seconds"] > LONG_AGO
    assert "in the open run 5" in inst.rlm("queue", "stats").stdout


def test_push_refuses_lines_that_are_too_long_even_for_a_dead_letter(inst):
    """They are named and counted, exit 1; the lines around them are pushed, and one at the bound, which is bad, is."""
    first, last, most = *steps.items(2, steps.TYPE), b"m" * READABLE_BYTES
    lines = b"\r\n".join([first, b"x" * (READABLE_BYTES + 1), b"y" * 5_000_000, most, last, b"z" * 3_000_000])

    done = inst.rlm("queue", "push", "--json", input=lines, code=1)

    printed = json.loads(done.stdout)
    assert printed == {"pushed": 3, "bad": 1, "waiting": 3, "refused": 3}
    assert inst.store.client.lrange(inst.store.keys.events, 0, -1) == [last, most, first]
    for number in (2, 3, 6):
        assert f"line {number}: not pushed, because it has more than 1,000,000 bytes" in done.stderr
    assert "3 lines not pushed" in done.stderr


def test_push_says_of_which_items_a_run_makes_dead_letters(inst):
    """They are pushed all the same."""
    lines = [steps.item("1", steps.TYPE), steps.item("2", steps.TYPE, "NOPE"), b'{"id": "3"}', b"[]"]

    done = inst.rlm("queue", "push", "--json", input=b"\n".join(lines))

    assert json.loads(done.stdout) == {"pushed": 4, "bad": 3, "waiting": 4, "refused": 0}
    warned = re.findall(r"line (\d+) makes a dead letter: (\w+), ", done.stderr)
    assert warned == [("2", "unknown_type"), ("3", "missing_field"), ("4", "not_object")]


def listed(inst, *how):
    return {one["event_id"]: one["state"] for one in inst.json("queue", "list", *how)["events"]}


def leave_over(inst, *items):
    """Let a run leave items over."""
    inst.push(*items)
    inst.close_run(inst.start_run())


def test_every_state_of_an_unsettled_event_is_listed(inst):
    """So what is listed is all that `rlm queue push` has to carry to another prefix."""
    inst.push(*steps.items(5, steps.TYPE))
    inst.start_run(600)
    claims = [steps.claim(inst.store) for _ in range(3)]
    steps.fail(inst.store, claims[0], "backoff", delay_us=60_000_000)
    steps.fail(inst.store, claims[1], "spent")
    inst.push(steps.item("new", steps.TYPE, steps.OTHER_TYPE, priority=7), b"no JSON")

    assert listed(inst) == {
        steps.event_id(4): "pending",
        steps.event_id(5): "pending",
        steps.event_id(3): "in_flight",
        steps.event_id(1): "backing_off",
        steps.event_id(2): "spent",
        f"new:{steps.TYPE}": "queued",
        f"new:{steps.OTHER_TYPE}": "queued",
    }
    (backing_off,) = [one for one in inst.json("queue", "list")["events"] if one["state"] == "backing_off"]
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
    assert set(listed(inst, "--item", "a")) == {a, a_other}
    assert set(listed(inst, "--older-than", "2h")) == {a, a_other}
    assert listed(inst, "--older-than", "4h") == {}
    assert "No such event" in inst.rlm("queue", "list", "--wallet", "nobody").stdout


@pytest.mark.parametrize("page", [1, 2, 3, 7])
def test_pages_hold_every_event_once_in_order(inst, monkeypatch, page):
    """Across types, states and lists, also within an item of several types and where many have the same score."""
    monkeypatch.setattr(queue, "PAGE", 2)
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


def test_a_run_that_opens_while_somebody_is_asked_has_them(inst, monkeypatch):
    """None is taken from its books, and that is told."""
    leave_over(inst, *steps.items(3, steps.TYPE))
    monkeypatch.setattr("rlm.cli.events.confirm", lambda *_words: inst.start_run())

    done = inst.rlm("queue", "drop", "--all", "--json", code=1)

    assert json.loads(done.stdout) == {"dropped": 0}
    assert "A run was opened meanwhile" in done.stderr
    assert looks.counts(inst.store).pending == 3
