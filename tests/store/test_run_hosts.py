"""The hosts of a run: those that are silent or reach nothing are not counted on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rlm.admin.endpoints import endpoint_list
from rlm.admin.planning import live_windows
from rlm.core.clock import system_clock
from rlm.core.window import WindowState
from rlm.ledger.processes import (
    BRISK_SECONDS,
    HEARTBEAT_TTL_SECONDS,
    SILENT_TIMES,
    Process,
    Role,
    WorkerState,
)
from rlm.ledger.ways import FAILING, FIRST_SHUT_SECONDS
from rlm.processes.sharing import LISTENING_SECONDS
from scheduler.team import RunHosts
from tests.clocks import SetClock
from tests.store import steps
from tests.store.ways import A, B, fail, pass_time

HERE, THERE = f"{A}:1:1", f"{B}:1:1"


@pytest.fixture
def clock(monkeypatch):
    clock = SetClock()
    monkeypatch.setattr("scheduler.team.system_clock", clock)
    return clock


@pytest.fixture
def run(running):
    return running(2)


@pytest.fixture
def duty():
    return SimpleNamespace(lately_away=False)


@pytest.fixture
def hosts(store, run, duty, clock):
    """The watch, which has seen a worker on each of two hosts, the first with an event of the run."""
    for worker in (HERE, THERE):
        announce(store, worker)
    made = RunHosts(store, run.id, duty)
    made.look()
    return made


@pytest.fixture
def claim(store, token, run):
    return steps.claim_next(store, token, run, HERE)


def announce(store, process_id, role=Role.WORKER, *, every=0.0):
    host = process_id.partition(":")[0]
    process = Process(process_id, 1, host, system_clock.now(), WorkerState.READY, 5, every=every)
    store.processes.announce(role, process)


def fall_silent(store, *worker_ids):
    """Delete the entries of workers."""
    for one in worker_ids:
        store.client.delete(store.keys.process(Role.WORKER, one))


def usable(hosts):
    return {one.id for one in hosts.usable(hosts.look())[0]}


def test_workers_that_fall_silent_with_events_in_hand_are_not_counted_on(store, hosts, clock):
    """Soon, although their entries have not ended; until they are heard from again."""
    for worker in (HERE, THERE):
        announce(store, worker, every=BRISK_SECONDS)
    for _ in range(int(SILENT_TIMES)):
        hosts.look()
        clock.time += BRISK_SECONDS
        announce(store, THERE, every=BRISK_SECONDS)
    assert usable(hosts) == {HERE, THERE}

    clock.time += 0.1
    assert usable(hosts) == {THERE}

    announce(store, HERE, every=BRISK_SECONDS)
    assert usable(hosts) == {HERE, THERE}


@pytest.mark.parametrize("away", [False, True])
def test_who_begins_to_listen_goes_by_when_entries_end(store, run, clock, duty, away):
    """Unless all are overdue, since Redis was away."""
    for worker in (HERE, THERE):
        announce(store, worker, every=BRISK_SECONDS)
    left_ms = round(1000 * (HEARTBEAT_TTL_SECONDS - SILENT_TIMES * BRISK_SECONDS)) - 1
    store.client.pexpire(store.keys.process(Role.WORKER, HERE), left_ms)
    duty.lately_away = away

    assert usable(RunHosts(store, run.id, duty)) == ({HERE, THERE} if away else {THERE})


def test_nobody_is_silent_while_nothing_could_be_heard(store, hosts, clock):
    """Redis was away, or this process stood still."""
    for _ in range(9):
        announce(store, HERE, every=BRISK_SECONDS)
        clock.time += LISTENING_SECONDS + 0.1
        assert usable(hosts) == {HERE, THERE}


def test_what_those_have_in_hand_that_are_not_counted_on_is_on_no_lane(store, hosts, clock, claim):
    """Nor is it once they are missing, until its lease has ended."""
    here, there = sorted(hosts.look(), key=lambda one: one.id)
    assert [hosts.held_beside(workers) for workers in ([here, there], [there], [here])] == [0, 1, 0]

    fall_silent(store, HERE)
    hosts.look()
    assert hosts.held_beside([there]) == 1


def test_workers_of_a_host_that_is_cut_off_are_not_counted_on(store, hosts, settings):
    """They reach Redis, and that is all."""
    for endpoint in list(settings.endpoints.values())[:2]:
        store.ways.open(endpoint, B)
        fail(store, endpoint, A, times=FAILING)
    workers = hosts.look()

    usable, cut = hosts.usable(workers)

    assert ([one.id for one in usable], cut) == ([THERE], {A})


def test_an_endpoint_that_no_host_reaches_rests_until_it_may_be_probed(store, hosts, settings):
    """Calls that nobody makes would be void; then one goes. One that some host reaches is as it was."""
    first, second = list(settings.endpoints.values())[:2]
    windows = {one.name: WindowState(free=9) for one in (first, second)}
    fail(store, first, A, here=True)
    hosts.look()
    assert hosts.shade(windows, [first, second], store.now()) == windows
    fail(store, first, B, here=True)
    hosts.look()

    shaded = hosts.shade(windows, [first, second], store.now())

    assert (shaded[first.name].free, shaded[second.name].free) == (0, 9)
    assert 0 < shaded[first.name].rest_seconds <= FIRST_SHUT_SECONDS
    pass_time(store, FIRST_SHUT_SECONDS)
    hosts.look()
    probed = hosts.shade(windows, [first, second], store.now())[first.name]
    assert (probed.free, probed.suspect, probed.unreached) == (1, True, "connection refused")


def test_what_no_host_reaches_is_known_from_the_first_turn_on(store, run, duty, settings):
    """Else calls were released there that nobody makes, and a forecast counted on them."""
    endpoint = next(iter(settings.endpoints.values()))
    announce(store, HERE, Role.SUPERVISOR)
    fail(store, endpoint, A, here=True)

    shaded = RunHosts(store, run.id, duty).shade({endpoint.name: WindowState(free=9)}, [endpoint], store.now())

    assert shaded[endpoint.name].free == 0


@pytest.mark.parametrize("kept", [(), (HERE,)])
def test_between_runs_a_host_that_would_start_workers_is_one_that_reaches(store, settings, kept):
    """Every face looks by the same hosts: those that have workers, and those that would start some."""
    endpoint = next(iter(settings.endpoints.values()))
    for worker in kept:
        announce(store, worker)
    for host in (A, B):
        announce(store, f"{host}:1", Role.SUPERVISOR)
    fail(store, endpoint, A, here=True)

    windows = live_windows(store, [endpoint])
    entry = next(one for one in endpoint_list(store) if one["name"] == endpoint.name)

    assert not windows[endpoint.name].suspect
    assert entry["circuit_reason"] is None


def test_nothing_is_released_that_only_a_host_without_workers_reaches(store, hosts, settings):
    """Nobody would make the call, and it would take the place of others."""
    endpoint = next(iter(settings.endpoints.values()))
    fall_silent(store, THERE)
    announce(store, THERE, Role.SUPERVISOR)
    fail(store, endpoint, A, here=True)
    hosts.look()

    assert hosts.shade({endpoint.name: WindowState(free=9)}, [endpoint], store.now())[endpoint.name].free == 0
