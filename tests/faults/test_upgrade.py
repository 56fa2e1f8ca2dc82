"""A rolling upgrade during a run: the previous release beside this one, both directions, processes told or killed."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import tarfile
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from tests.wait import wait_until

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
#: The release before this one.
BEFORE = "2df4a82ac6008d83d8689386ea22959bfd6b5b40"
#: The events that each of the windows brings.
EVENTS = 400
#: What no process may log meanwhile.
NEVER = re.compile(
    r"was set aside|is (?:none of|not) RLM's|Traceback|limit_exceeded|books_unbalanced|cannot be read", re.MULTILINE
)


@pytest.fixture(scope="session")
def before(tmp_path_factory):
    """The environment in which `python -m rlm` is the previous release."""
    found = subprocess.run(["git", "archive", BEFORE], cwd=ROOT, capture_output=True, check=False)
    if found.returncode:
        pytest.skip(f"the release before is not at hand, which takes the history of git: {found.stderr.decode()[:100]}")
    place = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(found.stdout)) as archive:
        archive.extractall(place, filter="data")
    return {"PYTHONPATH": str(place), "PYTHONSAFEPATH": "1"}


#: Writes the configuration of a demo as that version does, which knows fewer settings.
WRITE = """
import sys
from pathlib import Path
from rlm.sandbox.configuration import demo_document
from rlm.settings import load_settings
config, url = Path(sys.argv[1]), sys.argv[2]
config.write_text("")
config.write_text(demo_document(load_settings(config, {}), 10.0, url))
"""


@contextmanager
def installation(make_system, before):
    """A system with ticks whose configuration both versions read; processes `old ...` are of the previous release."""
    environments = {f"old {kind}": before for kind in ("scheduler", "supervisor")}
    with make_system(ticks=True, env={"RLM_WORKERS__MAX": "6", "RLM_WORKERS__MIN": "1"}, env_of=environments) as system:
        command = [sys.executable, "-c", WRITE, str(system.config), system.api.url]
        subprocess.run(command, env={**os.environ, **before}, check=True)
        yield system


def start(system, version, kind):
    """Start a scheduler or supervisor of a version, and wait until it is registered."""
    number = len(system.store.processes.alive(kind))
    system.start(f"{version} {kind}", kind)
    wait_until(
        lambda: len(system.store.processes.alive(kind)) > number, timeout=40, message=f"{version} {kind} is there"
    )


def leave(system, name, how):
    """Stop a process, told to or killed; return how many calls were in flight."""
    under_way = system.inflight()
    process = system.processes.pop(name)
    process.send_signal(how)
    process.wait(30)
    return under_way


def push_in_mid_window(system, number):
    """Push the events of the next window, and wait until that is in full swing."""
    ids = system.push_evenly(EVENTS, prefix=f"w{number}-")
    sent = len(system.api.arrivals)
    wait_until(lambda: len(system.api.arrivals) > sent + 60, timeout=60, message="the window is in full swing")
    return ids


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["told", "killed"])
@pytest.mark.parametrize("first", ["scheduler", "supervisor"])
@pytest.mark.parametrize("way", [("old", "new"), ("new", "old")], ids=["upgrade", "way back"])
def test_versions_replace_each_other_in_mid_run(make_system, before, way, first, how):
    """Nothing is lost, no limit exceeded, nothing sent twice but what was under way, and each run is on time."""
    was, will_be = way
    second = "supervisor" if first == "scheduler" else "scheduler"
    with installation(make_system, before) as system:
        for kind in ("scheduler", "supervisor"):
            start(system, was, kind)
        wait_until(system.workers, timeout=40, message="a worker is ready")
        ids, under_way = [], 0
        for number, kind in enumerate((first, second)):
            ids += push_in_mid_window(system, number)
            start(system, will_be, kind)
            under_way += leave(system, f"{was} {kind}", how)
        ids += push_in_mid_window(system, 2)
        wait_until(lambda: not set(ids) - set(system.answered()), timeout=90, message="all is done")
        wait_until(lambda: system.store.runs.current() is None, timeout=30, message="the last run is closed")

        records = [system.store.runs.record(one) for one in reversed(system.store.runs.history(20))]
        system.assert_promises(ids, records)
        repeats = sum(number - 1 for number in system.repeats().values())
        assert repeats <= (under_way if how == signal.SIGKILL else 0)
        assert_on_time(system, records)
        for name in ("old scheduler", "old supervisor", "new scheduler", "new supervisor"):
            assert not NEVER.search(system.log(name)), NEVER.search(system.log(name))
        report(f"{'-'.join(way)} {first} first {how.name}", system, records, repeats)


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


def report(what, system, records, repeats):
    """Write figures of a case to a file if they were asked for."""
    if place := os.environ.get("UPGRADE_OUT"):
        left = [one["counts"]["leftover"] for one in records]
        with Path(place).open("a") as out:
            out.write(f"{what}: {len(records)} runs, left over {left}, sent twice {repeats}\n")
