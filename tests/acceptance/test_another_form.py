"""An installation whose keys another version keeps in another form: nobody works on it, and a way out."""

from __future__ import annotations

import json
from contextlib import ExitStack

import pytest

from rlm import SCHEMA
from tests.acceptance.cli import Installation
from tests.store import looks, steps


@pytest.mark.parametrize(
    "command",
    [
        ("scheduler",),
        ("supervisor",),
        ("worker", "start"),
        ("web", "--port", "0"),
        ("start", "--wait"),
        ("status",),
        ("queue", "push"),
    ],
)
def test_every_process_refuses_to_start_and_says_what_to_do(inst, command):
    """Nothing is changed there."""
    inst.store.client.hset(inst.store.keys.lease, "schema", SCHEMA + 1)
    with looks.nothing_changes(inst.store):
        refused = inst.rlm(*command, code=4, input="")

    assert f"form {SCHEMA + 1} of another version" in " ".join(refused.stderr.split())
    assert "`rlm queue list --json`" in refused.stderr


def test_doctor_names_it(inst):
    inst.store.client.hset(inst.store.keys.lease, "schema", "soon")

    (finding,) = [one for one in inst.json("doctor", code=4)["findings"] if "another version" in one["message"]]

    assert (finding["verdict"], "`rlm queue push`" in finding["remedy"]) == ("fail", True)


@pytest.mark.rest
def test_what_is_unsettled_is_carried_over_into_an_empty_prefix(inst, tmp_path):
    """`rlm queue list --json | rlm queue push`: leftovers of every kind, items not yet taken, each as it came."""
    items = [
        steps.item(f"i{n}", steps.TYPE, steps.OTHER_TYPE, priority=n % 3, extra={"n": [n, 1.10]}) for n in range(30)
    ]
    inst.push(*items)
    run = inst.start_run(600)
    settled = steps.claim(inst.store)
    assert steps.complete(inst.store, settled)
    steps.fail(inst.store, steps.claim(inst.store), "backoff", delay_us=60_000_000)
    steps.fail(inst.store, steps.claim(inst.store), "spent")
    inst.close_run(run)
    inst.push(steps.item("queued", steps.TYPE), steps.item("queued2", steps.OTHER_TYPE))
    before = events(inst)
    assert len(before) == 61

    with ExitStack() as stack:
        other = stack.enter_context(Installation(tmp_path, inst.store.url))
        document = inst.rlm("queue", "list", "--json").stdout
        pushed = other.json("queue", "push", input=document)
        assert (pushed["pushed"], pushed["bad"]) == (61, 0)
        other.start_run()
        after = events(other)

    assert set(after) == set(before) - {settled.event_id}
    for one, (place, item) in after.items():
        assert (place, item) == ("pending", before[one][1]), one


def events(inst):
    found = inst.json("queue", "list")["events"]
    return {one["event_id"]: (one["state"], json.dumps(one["item"])) for one in found}
