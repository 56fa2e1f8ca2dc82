"""Workers with another configuration than the run's claim nothing; every view of workers names them."""

from __future__ import annotations

import pytest

from rlm.core.clock import system_clock
from rlm.ledger.processes import Process, Role, WorkerState
from tests.acceptance.cli import Installation, words_of
from tests.acceptance.system import System
from tests.store import steps, windows
from tests.wait import wait_until


@pytest.fixture
def inst(tmp_path, valkey_only_url):
    """An installation with an open run that wants a worker, and a ready worker with another configuration."""
    with Installation(tmp_path, valkey_only_url) as made:
        windows.trust(made.store)
        made.push(*steps.items(1, steps.TYPE))
        made.start_run()
        made.store.runs.want(made.token, made.store.runs.current().id, 1)
        announce(made, "astray", "another")
        yield made


def announce(inst, worker_id, revision):
    """Register a ready worker."""
    worker = Process(worker_id, 1, "host", system_clock.now(), WorkerState.READY, 5, revision)
    inst.store.processes.announce(Role.WORKER, worker)


def test_every_face_names_workers_of_another_configuration(inst):
    """`rlm status`, `rlm worker list` and `rlm doctor` say the same, and none says that all is well."""
    workers = inst.json("status")["workers"]
    assert (workers["other_configuration"], workers["each"][0]["other_configuration"]) == (1, True)
    assert "0 of 1 ready" in (said := words_of(inst.rlm("status")))
    assert "1 of another configuration claims nothing" in said
    assert inst.json("worker", "list")[0]["other_configuration"] is True
    assert "another configuration" in inst.rlm("worker", "list").stdout
    assert "no_supervisor" in {one["code"] for one in inst.json("doctor", code=1)["conditions"]}

    inst.store.processes.forget(Role.WORKER, "astray")
    announce(inst, "ours", inst.settings.revision)
    assert inst.json("worker", "list")[0]["other_configuration"] is False
    assert "another configuration" not in inst.rlm("status").stdout + inst.rlm("worker", "list").stdout

    assert inst.rlm("endpoint", "pause", steps.ENDPOINT, "--json").stderr == ""
    leads = Process(steps.CONDUCTOR, 1, "host", system_clock.now(), revision="another")
    inst.store.processes.announce(Role.SCHEDULER, leads)
    for order in ("pause", "resume", "share"):
        assert f"{inst.config} as read here" in inst.rlm("endpoint", order, steps.ENDPOINT, "--json").stderr


@pytest.mark.long
def test_a_supervisor_that_was_started_with_another_file_is_named_by_the_record(tmp_path):
    """Its workers are ready and claim nothing; once it is restarted the next run sends what was left over."""
    with System(tmp_path, speed=20.0) as system:
        text = system.config.read_text()
        system.start("scheduler")
        wait_until(lambda: system.store.leases.read().holder, timeout=20, message="a scheduler has read the file")
        system.config.write_text(text.replace('"threads" = 5', '"threads" = 4'))
        system.start("supervisor")
        wait_until(
            lambda: system.store.processes.register().living(Role.SUPERVISOR),
            timeout=20,
            message="a supervisor as well",
        )
        ids = system.push_evenly(5)
        first = system.await_record(system.ask_for_run())
        assert first["leftover_by_reason"]["workers"] == 5
        told = "condition=other_configuration"
        wait_until(lambda: told in system.log("scheduler"), timeout=30, message="it is told")

        system.config.write_text(text)
        system.stop("supervisor")
        system.start("supervisor")
        second = system.await_record(system.ask_for_run())
        assert second["counts"]["completed"] == 5
        system.assert_promises(ids, [first, second])
