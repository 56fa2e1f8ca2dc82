"""`rlm queue`: stats, push and clear, on a real server."""

from __future__ import annotations

import json

from rlm.admin.queue import PUSH_ITEMS
from rlm.core.errors import StoreUnreachableError
from rlm.ledger.intake import Intake
from rlm.ledger.keys import READABLE_BYTES
from tests.store import steps

#: A moment in 2023 that items tell, and seconds since then at least.
THEN = "2023-12-21T14:30:25.123Z"
LONG_AGO = 60_000_000


def queued(inst):
    """The audit list, oldest first."""
    return inst.store.client.lrange(inst.store.keys.events, 0, -1)[::-1]


# -- stats


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
    assert "open run" in inst.rlm("queue", "stats").stdout


# -- push


def test_push_refuses_lines_that_are_too_long_even_for_a_dead_letter(inst):
    """They are named and counted, exit 1; the lines around them are pushed, and one at the bound is."""
    first, last, most = *steps.items(2, steps.TYPE), b"m" * READABLE_BYTES
    lines = b"\r\n".join([first, b"x" * (READABLE_BYTES + 1), b"y" * 5_000_000, most, last, b"z" * 3_000_000])

    done = inst.rlm("queue", "push", "--json", input=lines, code=1)

    printed = json.loads(done.stdout)
    assert printed == {"pushed": 3, "waiting": 3, "bad": 1, "refused": 3}
    assert queued(inst) == [first, most, last]
    for number in (2, 3, 6):
        assert f"line {number}: not pushed, because it has more than 1,000,000 bytes" in done.stderr
    assert "3 lines not pushed" in done.stderr


def test_push_says_how_far_it_came_when_redis_fails(inst, monkeypatch):
    """What was pushed is pushed, what was on its way may be; exit 4."""
    push = Intake.push

    def fail_second_time(self, items):
        if queued(inst):
            raise StoreUnreachableError("Redis cannot be reached")
        return push(self, items)

    monkeypatch.setattr(Intake, "push", fail_second_time)

    done = inst.rlm("queue", "push", "--json", input=b"\n".join(steps.items(PUSH_ITEMS + 1, steps.TYPE)), code=4)

    assert done.stdout == ""
    assert f"{PUSH_ITEMS} items had been pushed before this" in done.stderr
    assert "cannot be reached" in done.stderr
    assert len(queued(inst)) == PUSH_ITEMS


# -- clear


def test_clear_asks_and_removes_the_audit_list_alone(inst):
    """What a run has taken, what is staged and what failed stay."""
    inst.push(*steps.items(2, steps.TYPE), b"bad")
    inst.start_run()
    inst.store.client.lpush(inst.store.keys.processing, b"staged")
    inst.push(*steps.items(4, steps.TYPE, first=10))

    done = inst.rlm("queue", "clear", input="y\n")

    assert "Remove 4 items" in done.stderr
    assert "4 items removed" in done.stdout
    found = inst.json("queue", "stats")
    assert (found["events"], found["staged"], found["processing"], found["failed"]) == (0, 1, 2, 1)
