"""The image, built from the steps of its Containerfile, at work: as another user, on a read-only root.

No container engine is used. It needs root, debootstrap, a mirror of Debian and an index of Python packages.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from datetime import timedelta

import pytest

from rlm.processes.signals import supervisor_grace
from rlm.settings import load_settings
from tests.containers.build_root import Build, size_of
from tests.containers.contained import WRITABLE, Contained
from tests.containers.containerfile import ROOT, stages
from tests.wait import wait_until

TOOLS = ("debootstrap", "unshare", "nsenter", "setpriv", "ip", "uv")
pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(timedelta(minutes=15).total_seconds()),
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0 or not all(map(shutil.which, TOOLS)),
        reason=f"it takes root and {', '.join(TOOLS)}",
    ),
]
#: The most that the image has, uncompressed, bytes.
MOST = 200e6


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The root of the image, built here."""
    place = tmp_path_factory.mktemp("image")
    context = place / "context"
    subprocess.run(["uv", "build", "-q", "--wheel", "--out-dir", context / "dist"], cwd=ROOT, check=True)
    (context / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "constraints.txt", context / "docs")
    yield Build(place / "roots", context).build()
    shutil.rmtree(place)


def listing(root):
    """Return all that a root holds, with times and sizes."""
    found = {}
    for path in root.rglob("*"):
        facts = path.lstat()
        found[path] = facts.st_mtime_ns, facts.st_size, facts.st_mode
    return found


def test_it_is_small_and_keeps_nothing_of_its_making(root):
    """No installer, no list of packages, no wheel; all bytecode is there."""
    assert size_of(root) < MOST
    assert not (root / "build").exists()
    assert list((root / "opt/rlm/lib").glob("python3*/site-packages/pip")) == []
    assert list((root / "var/lib/apt/lists").iterdir()) == []
    sources = list((root / "opt/rlm/lib").rglob("rlm/**/*.py"))
    assert len(sources) > 100
    assert all(list(source.parent.glob(f"__pycache__/{source.stem}.*.pyc")) for source in sources)


def test_the_demo_runs_and_nothing_is_written(root):
    """The whole system, without a network, as a user that has no name, on a root that is read-only."""
    before = listing(root)
    with Contained(root, "demo") as demo:
        status, said = demo.finish(120)

    assert status == 0, said[-3000:]
    assert "900 completed, 0 failed, 0 left over" in said
    assert "The API refused nothing" in said
    assert listing(root) == before


def test_it_is_who_it_says_and_can_write_nowhere_else(root):
    """The user of the Containerfile, without a capability; every other place refuses."""
    attempts = "; ".join(
        f"touch {place}/x && echo wrote {place}" for place in ("", "/etc/rlm", "/opt/rlm", "/var", *WRITABLE)
    )
    with Contained(
        root, "-c", f"id; grep -E 'CapBnd|NoNewPrivs' /proc/self/status; {attempts}", entrypoint=["sh"]
    ) as one:
        _, said = one.finish(20)

    assert said.startswith(f"uid={stages()[-1].last('USER').said.split(':')[0]}")
    assert re.search(r"CapBnd:\s*0+$", said, re.MULTILINE)
    assert re.search(r"NoNewPrivs:\s*1$", said, re.MULTILINE)
    assert re.findall(r"^wrote (.*)$", said, re.MULTILINE) == list(WRITABLE)


@pytest.mark.parametrize(
    "role", [["scheduler"], ["supervisor"], ["web"], ["worker", "start"]], ids=lambda role: role[0]
)
def test_each_role_is_healthy_and_ends_by_term(root, role):
    """The image's health check passes while the process lives; TERM to process 1 ends it long before it is killed."""
    with Contained(root, *role) as one:
        health = stages()[-1].health[0]
        wait_until(lambda: one.run(*health).returncode == 0, timeout=30, message="it is healthy")
        frozen = one.run("touch", "--date=2 minutes ago", stages()[-1].env["RLM_ALIVE_FILE"])
        assert frozen.returncode == 0, frozen.stderr
        status, said = one.stop(supervisor_grace(load_settings(None, {})))

    assert status == 0, said[-2000:]


def test_a_frozen_process_is_not_healthy(root):
    """One whose loop does not go round fails the check, a minute later; here the minute is put back."""
    image = stages()[-1]
    with Contained(
        root, "-c", f"touch --date='2 minutes ago' {image.env['RLM_ALIVE_FILE']}; sleep 60", entrypoint=["sh"]
    ) as one:
        wait_until(lambda: one.run("test", "-f", image.env["RLM_ALIVE_FILE"]).returncode == 0, message="it is there")

        assert one.run(*image.health[0]).returncode == 1
