"""Wrong clocks: that of Redis is set or drifts in mid-run, that of a host is seconds off."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from rlm.core.clock import timestamp
from rlm.ledger.embedded import binary_path
from tests.acceptance.system import make_item
from tests.wait import wait_until

pytestmark = [pytest.mark.rest, pytest.mark.skipif(shutil.which("cc") is None, reason="a wrong clock is compiled")]

EVERY_SECONDS = 4
DOCUMENT = """
[run]
window_seconds = {window}
every_seconds = {every}
guard_seconds = 0.2
[retry]
timeout_seconds = 1.0
[types.QUICK]
priority = 5
processing_seconds = 0.05
rate_limit = "10 per 2 second"
endpoints = [ {{ name = "one", url = "http://127.0.0.1:1/one" }}, {{ name = "two", url = "http://127.0.0.1:1/two" }} ]
"""
#: The period and the guard.
HELD_SECONDS = 2.2


class WrongClock:
    """A clock for other processes: `environ` makes one use it."""

    def __init__(self, directory: Path) -> None:
        self.file, library = directory / "clock", directory / "clock.so"
        source = Path(__file__).with_name("clock.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
        self.environ = {"LD_PRELOAD": str(library), "CLOCK_FILE": str(self.file)}
        self.file.write_bytes(struct.pack("dd", 0.0, 0.0))

    def set(self, seconds: float, gain: float = 0.0) -> None:
        """Put it ahead; from now on it gains a share of the time that passes."""
        with self.file.open("r+b") as file:
            file.write(struct.pack("dd", seconds - gain * time.monotonic(), gain))


@pytest.fixture
def clock(tmp_path):
    return WrongClock(tmp_path)


@contextmanager
def redis_with(clock, directory):
    """Run a server that goes by `clock`; yield its URL."""
    directory.mkdir()
    words = {"unixsocket": directory / "s", "port": 0, "dir": directory, "appendonly": "yes", "appendfsync": "always"}
    options = [str(word) for name, value in words.items() for word in (f"--{name}", value)]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [binary_path(), *options, "--maxmemory-policy", "noeviction"],
            env={**os.environ, **clock.environ},
            stdout=log,
            stderr=log,
        )
    try:
        wait_until((directory / "s").exists, message="the server listens")
        yield f"unix://{directory / 's'}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def quick(make_system, clock, tmp_path):
    """A system whose Redis goes by `clock`."""
    document = DOCUMENT.format(window=25, every=86_400)
    with (
        redis_with(clock, tmp_path / "redis") as url,
        make_system(document=document, speed=1.0, redis_url=url) as made,
    ):
        made.start_both()
        yield made


def begin(system, number=60):
    """Begin a run of so many events; return them, and the run once it is in its middle."""
    events = system.push([make_item(f"e{index}", "QUICK") for index in range(number)])
    run_id = system.ask_for_run()
    wait_until(lambda: len(system.answered()) >= 20, timeout=40, message="the run is in its middle")
    return events, run_id


@pytest.mark.parametrize("step", [8.0, -8.0])
def test_a_step_in_the_middle_of_a_run_holds_endpoints_once(quick, clock, step):
    """Each for its longest period; all that is due moves with the clock, and the run is done."""
    events, run_id = begin(quick)
    clock.set(step)
    stepped_at = time.monotonic()

    record = quick.await_record(run_id)

    quick.assert_promises(events, [record])
    assert record["counts"]["completed"] == len(events)
    log = quick.log("scheduler")
    assert log.count("[action=hold_endpoints") == log.count("The clock of Redis stepped by") == 1
    later = [one.at - stepped_at for one in quick.api.arrivals if one.at > stepped_at + 0.5]
    assert min(later) >= HELD_SECONDS - 0.3


@pytest.mark.parametrize("gain", [0.003, -0.003])
def test_a_clock_that_drifts_is_followed(quick, clock, gain):
    """Nothing is held, and the run is done when it would be."""
    clock.set(0.0, gain)
    events, run_id = begin(quick)

    record = quick.await_record(run_id)

    quick.assert_promises(events, [record])
    assert record["counts"]["completed"] == len(events)
    assert record["duration_seconds"] < 10
    assert "hold_endpoints" not in quick.log("scheduler")


@pytest.mark.parametrize("ahead", [5.0, -5.0])
def test_a_tick_is_served_once_and_in_time_by_a_host_whose_clock_is_wrong(make_system, clock, ahead):
    """By the clock of Redis, which is that of this test."""
    document = DOCUMENT.format(window=EVERY_SECONDS, every=EVERY_SECONDS)
    clock.set(ahead)
    env_of = dict.fromkeys(("scheduler", "supervisor"), clock.environ)
    with make_system(document=document, speed=1.0, ticks=True, env_of=env_of) as system:
        system.start_both()
        begun = []
        for number in range(3):
            push_at = (time.time() // EVERY_SECONDS + 1) * EVERY_SECONDS - 0.7
            time.sleep(max(0.0, push_at - time.time()))
            system.push([make_item(f"e{number}", "QUICK")])
            wait_until(lambda: len(system.answered()) > len(begun), timeout=20, message="it is sent")
            begun.append(time.time() % EVERY_SECONDS)
            wait_until(lambda: len(system.store.runs.history(9)) == len(begun), timeout=20, message="a run")

        assert max(begun) < 1.0
        starts = [record.started_at for record in system.store.runs.recent(9)]
        assert len(set(starts)) == len(starts) == 3
        assert all(timestamp(one) % EVERY_SECONDS == 0 for one in starts)
