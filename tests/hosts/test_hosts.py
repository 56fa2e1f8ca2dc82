"""Several hosts on one machine, as network namespaces: the promises hold whatever happens to one of them."""

from __future__ import annotations

import shutil

import pytest

from tests.hosts.net import why_not
from tests.hosts.trial import run_trial
from tests.hosts.trials import SKEWED, TRIALS

pytestmark = [pytest.mark.long, pytest.mark.alone, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", autouse=True)
def _namespaces():
    if reason := why_not():
        pytest.skip(reason)


@pytest.mark.parametrize("name", TRIALS)
def test_the_promises_hold(name, tmp_path):
    """Nothing is lost, keys are stable, limits and books hold, runs start on time; and the figures are as demanded."""
    if SKEWED in TRIALS[name].env.values() and shutil.which("cc") is None:
        pytest.skip("no host can have a clock of its own without a C compiler: apt-get install gcc libc6-dev")
    result = run_trial(TRIALS[name], tmp_path / name)
    assert (result["faults"], result["unmet"]) == ([], []), result
