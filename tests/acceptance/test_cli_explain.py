"""`rlm explain`: where an event is, why it waits, its attempts; on a real server."""

from __future__ import annotations

import re

from rlm.core.item import Reason, encode_letter
from rlm.ledger.processes import Process, Role
from tests.store import steps, windows

EVENT = steps.event_id(1)


def test_paused_held_and_resting_endpoints_are_told_apart(inst):
    """Each for its own reason, and one of them until somebody resumes it."""
    inst.push(*steps.items(1, steps.TYPE))
    inst.start_run()
    for role, facts in ((Role.WORKER, {"state": "ready", "threads": 5}), (Role.SCHEDULER, {})):
        process = Process(f"{role}-1", 1, "host", 0.0, revision=inst.settings.revision, **facts)
        inst.store.processes.announce(role, process)
    later = inst.store.now_us() + 100_000_000
    primary, first, second, last = inst.settings.event_types[0].endpoints
    inst.store.rules.pause(primary, "somebody")
    windows.set_record(inst.store, first, known=later)
    windows.set_record(inst.store, second, rest=later, since=later)
    windows.take(inst.store, last, 30)

    found = inst.json("explain", EVENT)

    assert [one["health"] for one in found["endpoints"]] == ["paused", "held", "resting", "full"]
    shut = f"(1 paused, 1 held, 1 resting, 1 full); {last.name} has a slot in "
    assert f"no endpoint lets a call through {shut}" in found["sentence"]
    assert "when resumed" in inst.rlm("explain", EVENT).stdout
    inst.close_run(inst.store.runs.current())
    assert "; now no endpoint lets a call through (1 paused, 1 held" in inst.json("explain", EVENT)["sentence"]


def test_of_several_letters_of_an_event_the_newest_is_told(inst):
    item = steps.item(1, steps.TYPE)
    facts = {"failed_at": 1.0, "run_id": None, "event": EVENT}
    letters = (encode_letter(item, Reason.REJECTED, why, **facts) for why in ("an older reason", "a newer reason"))
    inst.store.client.lpush(inst.store.keys.failed, *letters)

    assert "a newer reason" in inst.json("explain", EVENT)["sentence"]


def test_of_an_item_the_letter_of_one_type_is_shown_beside_the_event_of_another(inst):
    inst.push(steps.item("i1", steps.TYPE, "NOPE"))
    inst.close_run(inst.start_run())

    events = {each["type"]: each for each in inst.json("explain", "i1")["events"]}

    assert {name: each["state"] for name, each in events.items()} == {steps.TYPE: "leftover", "NOPE": "failed"}
    assert events["NOPE"]["letter"] == inst.json("failed", "list")[0]["id"]


def test_the_letter_of_a_whole_item_is_listed_with_the_id_of_its_item(inst):
    inst.store.client.lpush(inst.store.keys.events, b'{"id": "i2"}')
    inst.close_run(inst.start_run())

    assert "i2" in inst.rlm("failed", "list").stdout.split()


def test_what_waits_is_told_when_the_next_run_starts(inst):
    inst.push(steps.item("i1", steps.TYPE))
    supervisor = Process("host:1:a", 1, "host", 0.0, revision=inst.settings.revision)
    inst.store.processes.announce(Role.SUPERVISOR, supervisor)
    now = inst.store.now()

    sentence = inst.json("explain", EVENT)["sentence"]

    hours, minutes, seconds = map(int, re.search(r"at about (..):(..):(..) UTC", sentence).groups())
    assert 0 < (3600 * hours + 60 * minutes + seconds - now) % 86_400 < inst.settings.run.every_seconds + 5
