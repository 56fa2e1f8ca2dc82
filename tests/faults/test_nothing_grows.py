"""Many runs, killed workers and a killed host: the data in Redis stays within its bounds, nothing is forgotten."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from contextlib import suppress

import pytest

from rlm.ledger.processes import Role
from tests.acceptance.system import make_item
from tests.faults.test_processes_die import assert_next_run, busiest, calls_held
from tests.store import looks
from tests.values import as_json
from tests.wait import wait_until

#: Runs before what is there is counted first; then so many more.
WARM_UP = 2
HISTORY = 3


def kinds(system):
    """Return the number of keys of each kind: the part between the prefix and an id."""
    counted = Counter()
    for key in system.store.client.scan_iter(count=1000):
        counted[":".join(key.decode().split(":")[:2])] += 1
    del counted["rlm:reply"]  # each lives for a minute
    return counted


def run_with_a_kill(system, index):
    """Run a few events, one of them bad, and kill a worker with events in hand; return the record."""
    names = system.types
    items = [make_item(f"r{index}-{number}", names[number % len(names)]) for number in range(10)]
    system.store.intake.push([json.dumps(item).encode() for item in items] + [b"no item"])
    run_id = system.ask_for_run()
    found = wait_until(
        lambda: (
            next((one for one in busiest(system) if calls_held(system, one)), None)
            or as_json(system.store.runs.record(run_id))
        ),
        timeout=30,
        message="a worker has a call under way",
    )
    if not isinstance(found, dict):
        with suppress(ProcessLookupError):
            os.kill(found.pid, signal.SIGKILL)
    return system.await_record(run_id)


def kill_the_host(system):
    """Kill a supervisor together with all its workers, and start another."""
    supervisor = system.processes.pop("supervisor")
    workers = system.workers()
    supervisor.kill()
    for pid in workers:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    supervisor.wait()
    system.start("supervisor")


@pytest.mark.parametrize("runs", [pytest.param(8, marks=pytest.mark.long), pytest.param(300, marks=pytest.mark.long)])
def test_no_list_and_no_key_grows_with_the_runs(make_system, runs):
    """Old records go, and each letter is there once; of what the dead had in hand nothing stays."""
    env = {
        "RLM_RUN__HISTORY": str(HISTORY),
        "RLM_QUEUE__DEDUPE_SECONDS": "0",
        "RLM_RETRY__TIMEOUT_SECONDS": "1",
        "RLM_WORKERS__MIN": "2",
        "RLM_WORKERS__MAX": "2",
    }
    with make_system(env=env) as system:
        system.start_both()
        records = [run_with_a_kill(system, index) for index in range(WARM_UP)]
        kill_the_host(system)
        before = kinds(system)

        records += [run_with_a_kill(system, index) for index in range(WARM_UP, WARM_UP + runs)]
        store = system.store
        wait_until(lambda: len(store.runs.history()) == HISTORY, message="the oldest records are gone")
        wait_until(
            lambda: not looks.missing(store, Role.WORKER), timeout=40, message="the dead host's workers are forgotten"
        )

        after = kinds(system)
        grown = {kind: (before[kind], number) for kind, number in after.items() if number > before[kind] + 2}
        assert not grown, grown
        assert after["rlm:run"] == after["rlm:tally"] == after["rlm:due"] == 0
        letters = [line["id"] for line in archived(system)] + [one["id"] for one in system.letters()]
        assert len(letters) == len(set(letters)) == WARM_UP + runs
        system.assert_promises(
            [f"r{index}-{number}:{system.types[number % 5]}" for index in range(len(records)) for number in range(10)],
            records,
        )
        assert_next_run(system)


def archived(system):
    files = sorted(system.settings.archive_dir.glob("failed-*.jsonl"))
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]
