"""One worker process seen by its supervisor: real small processes, real signals, the kernel's notice of death."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time

import pytest

from rlm.processes.child import Child, watch_death

PATIENCE = 10.0


class Process:
    """A forked process with the interface that `Child` needs, over one of `subprocess` that reports when it is up."""

    def __init__(self, code):
        self.popen = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.popen.stdout.readline() == "up\n"
        self.pid = self.popen.pid

    def join(self):
        self.popen.wait(PATIENCE)

    @property
    def exitcode(self):
        return self.popen.poll()

    def close(self):
        self.popen.kill()
        self.popen.wait()
        self.popen.stdout.close()


@pytest.fixture
def make_child():
    """Make children; afterwards none of them is left."""
    made = []

    def make(code):
        process = Process(code)
        made.append(process)
        return Child(f"w{len(made)}", process, watch_death(process.pid))

    yield make
    for process in made:
        process.close()


def is_dead(child, seconds=0.0):
    return bool(select.select([child.death], [], [], seconds)[0])


UP = "print('up', flush=True)"
SLEEPS = f"{UP}; import time; time.sleep(60)"


def test_a_living_child_is_not_dead(make_child):
    """The notice of death stays silent as long as the process lives."""
    child = make_child(SLEEPS)

    assert not is_dead(child)
    assert (child.stopping, child.killed) == (False, False)


def test_a_child_that_dies_is_noticed_at_once(make_child):
    """A select on the child returns within a moment of its death, whoever killed it."""
    child = make_child(SLEEPS)
    began = time.monotonic()
    os.kill(child.pid, signal.SIGKILL)

    assert is_dead(child, PATIENCE)
    assert time.monotonic() - began < 1.0
    assert child.reap() == "by SIGKILL"
    assert not child.stopping


def test_stop_asks_and_the_child_may_finish(make_child):
    """TERM: the child decides when to leave, and its exit status is told."""
    child = make_child(
        f"import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); {UP}; signal.pause()"
    )

    child.stop()

    assert child.stopping
    assert is_dead(child, PATIENCE)
    assert child.reap() == "with exit status 7"


def test_kill_does_not_ask(make_child):
    """KILL ends even a child that ignores TERM."""
    child = make_child(f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {UP}; signal.pause()")
    child.stop()
    assert not is_dead(child, 0.05)

    child.kill()

    assert (child.stopping, child.killed) == (True, True)
    assert is_dead(child, PATIENCE)
    assert child.reap() == "by SIGKILL"


def test_a_signal_to_a_child_that_has_died_is_no_trouble(make_child):
    """Between its death and its reaping a child may be told anything."""
    child = make_child(UP)
    assert is_dead(child, PATIENCE)

    child.stop()
    child.kill()

    assert child.reap() == "with exit status 0"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals by descriptor")
def test_no_stranger_with_a_reused_pid_is_ever_signalled(make_child):
    """Signals go by the notice of death, not by the number, which may be somebody else's by now."""
    child, stranger = make_child(SLEEPS), make_child(SLEEPS)
    os.kill(child.pid, signal.SIGKILL)
    assert is_dead(child, PATIENCE)
    child.process.join()

    child.process.pid = stranger.pid
    child.kill()

    assert not is_dead(stranger, 0.05)
