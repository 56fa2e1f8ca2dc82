"""A standby continues an open run: how many seconds after each fault of the leader it sends again."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from rlm.core.clock import system_clock
from tests.faults.proxy import Proxy
from tests.values import as_json
from tests.wait import wait_until

pytestmark = pytest.mark.long

#: Within so many seconds a standby has to send again.
TAKEOVER_SECONDS = 5.0
#: Puts the wall clock of a process wrong by as many seconds as a file says, which may change.
WRONG_CLOCK = """
import os, time
right = time.time
def wrong():
    with open(os.environ["WRONG_CLOCK"]) as file:
        return right() + float(file.read() or 0)
time.time = wrong
"""


class SilentProxy(Proxy):
    """Forwards until it is told to fall silent: then connections stay, new ones too, but nothing passes."""

    def __init__(self, target) -> None:
        super().__init__(target)
        self.silent = False

    async def write(self, writer, data: bytes) -> None:
        """Write, unless silent: then the data is lost."""
        if not self.silent:
            await super().write(writer, data)


@contextmanager
def two_schedulers(make_system, tmp_path, *, late: bool = False, **options):
    """Yield a system in a run with plenty to send, its leader and a standby; the leader's proxy; and the run."""
    document = """
    [types.A]
    rate_limit = "10/second"
    processing_seconds = 1.0
    endpoints = [{ name = "a1", url = "http://127.0.0.1:1/a1" }, { name = "a2", url = "http://127.0.0.1:1/a2" }]
    """
    env = {"RLM_RUN__WINDOW_SECONDS": "60", "RLM_WORKERS__MIN": "2"}
    with make_system(document=document, env=env, **options) as system:
        socket = system.store.client.connection_pool.connection_kwargs["path"]
        with SilentProxy(socket) as proxy:
            system.redis_of["scheduler"] = f"redis://127.0.0.1:{proxy.port}/0"
            system.start_both()
            if not late:
                start_standby(system)
            wait_until(lambda: len(system.workers()) == 2, timeout=40, message="the workers are ready")
            ids = system.push_evenly(1200)
            run_id = system.ask_for_run()
            wait_until(lambda: len(system.api.arrivals) > 100, timeout=30, message="calls are made")
            if late:
                start_standby(system)
            yield system, proxy, run_id, ids


def start_standby(system) -> None:
    system.start("standby", "scheduler")
    wait_until(
        lambda: len(system.store.processes.register().living("scheduler")) == 2,
        timeout=30,
        message="the standby is known",
    )


def kill(system, _proxy) -> None:
    process = system.processes.pop("scheduler")
    process.kill()
    process.wait()


def freeze(system, _proxy) -> None:
    system.processes["scheduler"].send_signal(signal.SIGSTOP)


def cut_off(_system, proxy) -> None:
    proxy.silent = True


def tell_to_stop(system, _proxy) -> None:
    system.processes["scheduler"].send_signal(signal.SIGTERM)


def token_of(system) -> int:
    return int(system.store.client.hget(system.store.keys.lease, "token"))


def seconds_until_sent(system, fault, proxy) -> tuple[float, float]:
    """Cause the fault; return the seconds until the lease changed hands, and until the next call."""
    before = token_of(system)
    began = system_clock.monotonic()
    fault(system, proxy)
    wait_until(lambda: token_of(system) > before, timeout=20, message="the standby leads")
    taken = system_clock.monotonic() - began
    number = len(system.api.arrivals)
    wait_until(lambda: len(system.api.arrivals) > number, timeout=20, message="a call is sent")
    return taken, system_clock.monotonic() - began


@pytest.mark.parametrize("late", [False, True], ids=["standing by", "started late"])
@pytest.mark.parametrize("fault", [kill, freeze, cut_off, tell_to_stop])
def test_a_standby_sends_within_five_seconds(make_system, tmp_path, fault, late):
    """And the one that led before changes nothing when it comes back."""
    with two_schedulers(make_system, tmp_path, late=late) as (system, proxy, run_id, ids):
        taken, sent = seconds_until_sent(system, fault, proxy)
        report(f"{fault.__name__}, the standby {'started late' if late else 'standing by'}", taken, sent)
        assert sent <= TAKEOVER_SECONDS
        token = token_of(system)
        if fault is freeze:
            system.processes["scheduler"].send_signal(signal.SIGCONT)
        proxy.silent = False
        if fault in {freeze, cut_off}:
            wait_until(lambda: "does not conduct any more" in system.log("scheduler"), timeout=30)
        record = system.await_record(run_id, timeout=90)
        assert token_of(system) == token
        system.assert_promises(ids, [record])
        assert system.store.runs.history(10) == [run_id]
        assert not system.repeats()


def report(what, taken, sent):
    """Write figures of a case to a file if they were asked for."""
    if place := os.environ.get("TAKEOVER_OUT"):
        with Path(place).open("a") as out:
            out.write(f"{what}: the lease after {taken:.2f} s, a call after {sent:.2f} s\n")


@pytest.mark.parametrize("wrong_seconds", [30.0, -30.0])
def test_a_standby_on_a_host_whose_clock_is_wrong_serves_the_same_ticks(make_system, tmp_path, wrong_seconds):
    """Also where that clock is set meanwhile: the next run begins at its tick, and no tick is served twice."""
    wrong = tmp_path / "wrong"
    wrong.write_text(str(wrong_seconds))
    (tmp_path / "sitecustomize.py").write_text(WRONG_CLOCK)
    environment = {"PYTHONPATH": str(tmp_path), "WRONG_CLOCK": str(wrong)}
    env = {"RLM_WORKERS__MIN": "2", "RLM_WORKERS__MAX": "4"}
    with make_system(ticks=True, env=env, env_of={"standby": environment}) as system:
        system.start_both()
        start_standby(system)
        wait_until(lambda: len(system.workers()) >= 2, timeout=40, message="the workers are ready")
        ids = system.push_evenly(900, prefix="a")
        wait_until(lambda: len(system.api.arrivals) > 60, timeout=60, message="calls are made")
        taken, sent = seconds_until_sent(system, kill, None)
        report(f"kill, the standby's clock {wrong_seconds:+g} s off", taken, sent)
        ids += system.push_evenly(100, prefix="b")
        wait_until(lambda: not set(ids) - set(system.answered()), timeout=60, message="all is done")
        wrong.write_text(str(-2 * wrong_seconds))
        ids += system.push_evenly(100, prefix="c")
        wait_until(lambda: not set(ids) - set(system.answered()), timeout=60, message="all is done again")
        wait_until(lambda: system.store.runs.current() is None, timeout=30, message="the last run is closed")

        assert sent <= TAKEOVER_SECONDS
        records = [as_json(system.store.runs.record(one)) for one in reversed(system.store.runs.history(20))]
        system.assert_promises(ids, records)
        assert not system.repeats()
        assert_on_time(system, records)


def assert_on_time(system, records):
    """Check that each run begins at a tick, none with work is missing, and each is closed by its deadline."""
    every = system.settings.run.every_seconds
    ticks = [datetime.fromisoformat(one["started_at"]).timestamp() for one in records]
    assert all(min(tick % every, every - tick % every) < 0.002 for tick in ticks), ticks
    for number, (earlier, later) in enumerate(pairwise(ticks), 1):
        for missed in range(1, round((later - earlier) / every)):
            assert work_at(earlier + missed * every, system, records[:number]) <= 0, ticks
    for one in records:
        late = datetime.fromisoformat(one["finished_at"]) - datetime.fromisoformat(one["deadline"])
        assert late.total_seconds() <= 1.0, one
        assert one["state"] in {"completed", "partial"}, one


def work_at(tick, system, records):
    """Return the minimum number of events for a tick without a run, after those of `records`."""
    pushed = sum(number for at, number in system.pushes if at < tick - 1)
    return pushed - sum(one["counts"]["completed"] + one["counts"]["failed"] for one in records)
