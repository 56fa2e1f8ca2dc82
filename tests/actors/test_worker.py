"""A real worker process: it works when woken, exits when asked, and loses no event however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from actors.worker import UNFIT
from rlm.ledger.processes import Role, WorkerState
from tests.bench import TYPE, Bench
from tests.wait import wait_until

ROOT = Path(__file__).parents[2]
#: Seconds until something that ought to have happened has not.
PATIENCE = 15.0


class Started:
    """A worker started by hand, `rlm worker start`, in its own session."""

    def __init__(self, bench, config=None):
        self.bench = bench
        self.log = bench.config.with_suffix(".log")
        before = {one.id for one in bench.store.processes.alive(Role.WORKER)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "rlm", "worker", "start", "--config", str(config or bench.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=ROOT,
            )
        self.entry = wait_until(lambda: self._new(before), timeout=PATIENCE, message="the worker is ready")
        self.id = self.entry.id

    def _new(self, before):
        assert self.process.poll() is None, self.log.read_text()
        workers = self.bench.store.processes.alive(Role.WORKER)
        return next((one for one in workers if one.id not in before and one.state == WorkerState.READY), None)

    def signal(self, signum=signal.SIGTERM):
        self.process.send_signal(signum)

    def status(self, timeout=PATIENCE):
        return self.process.wait(timeout)

    def entries(self):
        return [one for one in self.bench.store.processes.alive(Role.WORKER) if one.id == self.id]

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@pytest.fixture
def make_bench(valkey_only_url, tmp_path):
    """Make a bench and workers on it; none of them is left afterwards."""
    opened = []

    def make(url=valkey_only_url, **options):
        bench = Bench(url, tmp_path, **options).__enter__()
        bench.workers = []
        opened.append(bench)

        def start(config=None, **options):
            bench.workers.append(Started(bench, config, **options))
            return bench.workers[-1]

        def send(number):
            events = bench.take(number)
            bench.store.processes.wake("workers")
            return events

        bench.start, bench.send = start, send
        return bench

    yield make
    for bench in opened:
        for worker in bench.workers:
            worker.close()
        bench.__exit__()


@pytest.fixture
def bench(make_bench):
    return make_bench()


def under_way(bench, number):
    wait_until(lambda: len(bench.api.arrivals) == number, timeout=PATIENCE, message=f"{number} calls are under way")


def completed(bench):
    return bench.tally().get(f"completed:{TYPE}", 0)


@pytest.mark.rest
@pytest.mark.parametrize(
    "signums", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT), (signal.SIGQUIT,)]
)
def test_a_second_signal_ends_a_worker_at_once(make_bench, signums):
    """Calls are cut, the status says that it was not clean, and what it held is freed as for a dead one."""
    bench = make_bench(timeout=5.0)
    bench.api.set_fault("*", hang=True)
    worker = bench.start()
    bench.send(2)
    under_way(bench, 2)
    first, *others = signums
    worker.signal(first)
    for signum in others:
        wait_until(lambda: "it was asked to" in worker.log.read_text(), message="the first signal was heard")
        worker.signal(signum)
    asked_at = time.monotonic()

    assert worker.status() == UNFIT
    assert time.monotonic() - asked_at < 3.0  # the calls would take five
    assert bench.where() == {"inflight": 2}
    assert bench.store.recovery.reap(worker.id) == 2
    assert bench.where() == {"pending": 2}
    bench.check()


SUPERVISOR = """
import sys
from pathlib import Path
from actors.worker import run_worker
from rlm.ledger import Store
from rlm.ledger.processes import Role
from rlm.processes.launcher import spawn, start_template
from rlm.settings import load_settings

if __name__ == "__main__":
    start_template(["actors.preload"])
    settings = load_settings(Path(sys.argv[1]))
    with Store(settings, keeps_server=True) as store:
        names = [f"test-worker-{number}" for number in range(2)]
        children = [spawn(run_worker, settings, name, "test-supervisor") for name in names]
        print(*(child.pid for child in children), flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def spawned(bench):
    """Two workers that a supervisor in its own process has spawned from the template."""
    script = bench.config.with_name("supervisor.py")
    script.write_text(SUPERVISOR)
    log = bench.config.with_suffix(".log").open("ab")
    supervisor = subprocess.Popen(
        [sys.executable, str(script), str(bench.config)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        start_new_session=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    pids = [int(pid) for pid in supervisor.stdout.readline().split()]
    assert len(pids) == 2
    wait_until(
        lambda: [one.state for one in bench.store.processes.alive(Role.WORKER)] == [WorkerState.READY] * 2,
        timeout=PATIENCE,
        message="both workers are ready",
    )
    yield bench, supervisor, pids
    supervisor.kill()
    supervisor.wait()
    supervisor.stdin.close()
    supervisor.stdout.close()
    log.close()
    for pid in pids:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


def alive(pid):
    """Return whether a process is alive; an unreaped zombie is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.rest
def test_workers_whose_supervisor_is_killed_finish_and_leave(spawned):
    """What is under way is settled. Each leads a session: a signal to the supervisor's group does not reach them."""
    bench, supervisor, pids = spawned
    assert [(os.getsid(pid), os.getpgid(pid)) for pid in pids] == [(pid, pid) for pid in pids]
    bench.api.set_fault("*", slow=40.0)
    bench.send(4)
    under_way(bench, 4)
    supervisor.kill()
    wait_until(lambda: not any(map(alive, pids)), timeout=PATIENCE, message="both workers have left")

    assert completed(bench) == 4
    assert bench.store.processes.alive(Role.WORKER) == []
    bench.check()
