"""`rlm plan`: the dry run for what waits now, and for given counts."""

from __future__ import annotations

from tests.each import each
from tests.store import looks, steps


def events(plan):
    """Return the planned events by type, without types that have none."""
    return {name: part["events"] for name, part in plan["by_type"].items() if part["events"]}


def test_what_waits_is_planned_and_not_taken(inst):
    """Items on the audit list and in staging; nothing of it changes."""
    inst.store.client.lpush(inst.store.keys.processing, *steps.items(3, steps.OTHER_TYPE))
    inst.push(*steps.items(5, steps.TYPE, steps.OTHER_TYPE, first=10))

    with looks.nothing_changes(inst.store):
        found = inst.json("plan")

    assert events(found) == {steps.TYPE: 5, steps.OTHER_TYPE: 8}


def test_while_a_run_is_open_what_is_unsettled_is_planned(inst):
    """As if it all started now, wherever its events are."""
    inst.push(*steps.items(5, steps.TYPE))
    inst.start_run()
    claim = steps.claim(inst.store)
    steps.complete(inst.store, claim)
    steps.claim(inst.store)

    assert events(inst.json("plan")) == {steps.TYPE: 4}


# -- what if


@each(
    ("args", "expected"),
    [
        (["--set", "run.tarjet=1"], "no such setting (did you mean 'run.target'?)"),
        (["--set", "run.target=2"], "--set: run.target = 2.0: must be a number above 0, at most 1"),
        (
            ["--set", "workers.max=5", "--set", "workers.min=6"],
            "--set: workers.min = 6: must be at most max, which is 5",
        ),
        (["--add-endpoint", "REBALANCE_NEDED=x"], "did you mean 'REBALANCE_NEEDED'?"),
        (["--add-endpoint", "REBALANCE_NEEDED=rebalance_api"], "is an endpoint or a budget already"),
    ],
)
def test_a_wrong_what_if_is_a_usage_error(inst, args, expected):
    """The option, the key, the value and what is allowed, as for the file."""
    done = inst.rlm("plan", *args, code=2)

    assert expected in done.stderr
    assert done.stdout == ""
