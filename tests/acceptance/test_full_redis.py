"""A Redis whose memory is full: commands that free some of it work."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from rlm.core.item import Reason, encode_letter
from tests.store import steps


@contextmanager
def full(store):
    """Let the server take nothing more."""
    store.client.config_set("maxmemory", 1_000_000)
    try:
        yield
    finally:
        store.client.config_set("maxmemory", 0)


@pytest.fixture
def inst(inst):
    """An installation with two letters, a leftover, and an item on the audit list; its server is full."""
    inst.push(*steps.items(1, steps.TYPE))
    inst.close_run(inst.start_run())
    for number in (1, 2):
        raw = encode_letter(
            steps.item(f"bad{number}", steps.TYPE),
            Reason.REJECTED,
            "no",
            failed_at=0.0,
            run_id="r",
            event=f"bad{number}:{steps.TYPE}",
        )
        inst.store.client.lpush(inst.store.keys.failed, raw)
    inst.push(steps.item("waits", steps.TYPE))
    inst.rlm("failed", "list")  # what a command needs is loaded
    with full(inst.store):
        with pytest.raises(Exception, match="memory"):
            inst.store.client.set("rlm:full", "x")
        yield inst


@pytest.mark.parametrize("forgotten", [False, True], ids=["loaded", "scripts forgotten"])
def test_memory_can_be_freed(inst, forgotten):
    """Letters are dropped or retried, leftovers dropped and the audit list cleared, also with no script loaded."""
    if forgotten:
        inst.store.client.script_flush()
    first, second = (one["id"] for one in inst.json("failed", "list"))

    assert inst.json("failed", "drop", first)["dropped"] == [first]
    assert inst.json("failed", "retry", second)["retried"] == [second]
    inst.rlm("queue", "clear", "--yes")
    inst.rlm("queue", "drop", "--all", "--yes")

    assert inst.json("failed", "list") == []
    assert sum(inst.store.intake.lengths()) == 0
    assert inst.store.ledger.count([steps.TYPE])[steps.TYPE].pending == 0
