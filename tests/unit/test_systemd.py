"""The systemd units of docs/ start existing commands, and give them enough time to stop."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from rlm.cli.group import rlm
from rlm.processes.signals import (
    HASTE_SECONDS,
    REPEAT_SECONDS,
    group_grace,
    longest_call,
    supervisor_grace,
    worker_grace,
)
from rlm.settings import load_settings

DOCS = Path(__file__).parents[2] / "docs"
UNITS = sorted((DOCS / "systemd").glob("*.service"))
#: Where the units expect what they start.
PROGRAM = "/srv/rlm/.venv/bin/rlm"

each_unit = pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)


def section_of(path, name="Service"):
    """Read a section of a unit."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(path)
    return unit[name]


@each_unit
def test_a_unit_starts_a_command_that_exists(path):
    """What a unit starts is a command of `rlm`, with options that it has."""
    program, name, *options = section_of(path)["ExecStart"].split()

    assert program == PROGRAM
    command = rlm.get_command(click.Context(rlm), name)
    assert command is not None
    assert set(options) <= {flag for param in command.params for flag in param.opts}


@each_unit
def test_a_unit_leaves_the_time_to_stop_and_cuts_no_call(path):
    """As docs/deployment.md has it: the workers get one TERM only, and calls under way may end."""
    service = section_of(path)
    settings = load_settings(None)
    needed = {
        "up": 2 * group_grace(settings),
        "scheduler": supervisor_grace(settings),
        "supervisor": supervisor_grace(settings),
        "web": 0,
    }

    name = service["ExecStart"].split()[1]
    assert float(service["TimeoutStopSec"]) > needed[name]
    assert name == "web" or service["KillMode"] == "mixed"
    assert (service["Restart"], service["RestartPreventExitStatus"]) == ("always", "2")


@each_unit
def test_a_unit_waits_for_redis_however_long(path):
    """Starts that end at once (exit code 4) are no reason to give up: by default systemd does after five in 10 s."""
    assert section_of(path, "Unit")["StartLimitIntervalSec"] == "0"


def test_each_grace_period_is_longer_than_the_one_it_waits_for():
    """A worker ends its calls, a supervisor outlives its workers, and a group its supervisor."""
    settings = load_settings(None)
    ladder = [longest_call(settings), worker_grace(settings), supervisor_grace(settings), group_grace(settings)]

    assert ladder == sorted(set(ladder))
    assert HASTE_SECONDS > 2 * REPEAT_SECONDS


def test_every_unit_is_told_of():
    """The page on deploying has a row for each unit, and for none that there is not."""
    told = (DOCS / "deployment.md").read_text(encoding="utf-8")

    assert set(re.findall(r"^\| `(\S+\.service)` \|", told, re.MULTILINE)) == {path.name for path in UNITS}


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd here")
def test_systemd_takes_them_as_they_are(tmp_path):
    """Its own verification has nothing to say of them."""
    for path in UNITS:
        text = path.read_text(encoding="utf-8").replace(PROGRAM, "/bin/true").replace("User=rlm", "User=root")
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    units = [str(path) for path in sorted(tmp_path.iterdir())]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout + done.stderr) == (0, "")
