"""Redis answers but refuses writes during a run: nothing is sent meanwhile, nothing is lost, and RLM reports it."""

from __future__ import annotations

import time
from contextlib import contextmanager

import pytest

from rlm.core.errors import StoreError
from rlm.ledger.connect import make_client
from tests.conftest import running_server
from tests.faults.test_processes_die import assert_next_run
from tests.wait import wait_until

pytestmark = pytest.mark.rest

#: How long Redis refuses, seconds.
REFUSING_SECONDS = 1.5
#: Calls whose slots were taken before may leave so long after it began, seconds.
UNDER_WAY_SECONDS = 0.6
#: Lines a process may log in a second of refusals, at the most, on average.
LINES_A_SECOND = 40
#: The workers are there before the run, and its window is long, so that what a busy machine takes does not matter.
ENV = {"RLM_WORKERS__MIN": "3", "RLM_RUN__WINDOW_SECONDS": "60"}


@contextmanager
def out_of_memory(client, directory):
    """Fill the memory under noeviction: OOM."""
    client.config_set("maxmemory", 1)
    yield "maxmemory"
    client.config_set("maxmemory", 0)


@contextmanager
def read_only(client, directory):
    """Make it a replica of a missing primary: READONLY."""
    client.replicaof("127.0.0.1", "1")
    yield "read only replica"
    client.replicaof("NO", "ONE")


@contextmanager
def snapshots_fail(client, directory):
    """Prevent snapshots by a directory in place of the file: MISCONF."""
    obstacle = directory / client.config_get("dbfilename")["dbfilename"]
    obstacle.mkdir()
    client.config_set("save", "3600 1000000")
    client.bgsave()
    wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", message="the snapshot failed")
    yield "MISCONF"
    obstacle.rmdir()
    client.config_set("save", "")


@contextmanager
def cut_off(client, directory):
    """Make it a primary without replicas that then must refuse writes: NOREPLICAS."""
    client.config_set("min-replicas-to-write", 1)
    yield "NOREPLICAS"
    client.config_set("min-replicas-to-write", 0)


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "server"


@pytest.fixture
def refused(make_system, directory):
    """A system on its own server, by URL."""
    with running_server("valkey", directory) as url, make_system(env={**ENV, "RLM_REDIS__URL": url}) as made:
        made.start_both()
        wait_until(lambda: len(made.workers()) == 3, timeout=30, message="the workers are ready")
        with make_client(url) as client:
            yield made, client


@pytest.mark.parametrize(
    "refusing",
    [out_of_memory, *(pytest.param(one, marks=pytest.mark.long) for one in (read_only, snapshots_fail, cut_off))],
)
def test_a_redis_that_refuses_writes_stops_the_calls_and_loses_nothing(refused, directory, refusing):
    """An item is refused, no call begins without a slot, and what was answered is recorded once it can be."""
    system, client = refused
    events = system.push_evenly(200)
    run_id = system.ask_for_run()
    wait_until(lambda: len(system.answered()) > 60, timeout=30, message="the run is in its middle")
    before = {name: system.log(name) for name in ("scheduler", "supervisor")}

    with refusing(client, directory) as answer:
        began = time.monotonic()
        with pytest.raises(StoreError):
            system.store.intake.push([b"{}"])
        wait_until(lambda: time.monotonic() > began + REFUSING_SECONDS, message="it has refused for a while")
        told = {name: system.log(name).removeprefix(text) for name, text in before.items()}
        healed = time.monotonic()

    record = system.await_record(run_id)
    meanwhile = [one for one in system.api.arrivals if began + UNDER_WAY_SECONDS < one.at < healed]
    assert not meanwhile, f"{len(meanwhile)} calls were sent without a slot"
    assert record["counts"]["completed"] == 200, record["counts"]
    assert not system.repeats()
    for name, lines in told.items():
        assert lines.count("\n") < LINES_A_SECOND * REFUSING_SECONDS, f"{name}: {lines.count(chr(10))} lines"
        assert "Traceback" not in lines
        assert answer in lines, f"{name} does not tell what Redis answered"
    system.assert_promises(events, [record])
    assert_next_run(system)
