"""Simulated windows with faults keep every promise, a broken script is noticed, and a seed reproduces a failure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation import __main__ as program
from tests.simulation import mutants
from tests.simulation.case import FAULTY_WINDOWS, play, settings_of, without_guard
from tests.simulation.faults import HOST_FAULTS, STOP_FAULTS

#: Seeds that are always played. A seed that once found something stays here.
SEEDS = range(1, 16)
#: Those of them that the default tier plays.
FEW_SEEDS = range(1, 3)
#: Seeds that are tried before a mutant counts as unnoticed: of three or four one notices.
TRIES = range(1, 31)


@pytest.mark.parametrize(
    "seed", [seed if seed in FEW_SEEDS else pytest.param(seed, marks=pytest.mark.rest) for seed in SEEDS]
)
def test_windows_with_faults_keep_every_promise(seed):
    """Safety in every window, liveness once the faults have stopped."""
    verdict = play(seed)

    assert not verdict.complaints, program.failure(verdict)
    assert verdict.windows > verdict.faulty_windows == FAULTY_WINDOWS
    assert verdict.faults.total()


@pytest.mark.rest
@pytest.mark.parametrize(("seed", "focus"), [(1, HOST_FAULTS), (3, HOST_FAULTS), (1, STOP_FAULTS)])
def test_clocks_that_are_set_and_schedulers_that_leave_keep_every_promise(seed, focus):
    """Ticks go on though the clock of the hosts was set back; a run is handed over, or closed where all leave."""
    verdict = play(seed, focus=focus)

    assert not verdict.complaints, program.failure(verdict)
    assert all(verdict.faults[kind] for kind in focus)


@pytest.mark.rest
def test_without_fencing_a_deposed_conductor_is_noticed():
    """The scripts' fencing is taken out: some seed has a conductor wake up that another has replaced."""
    assert _caught(mutations=mutants.without_fencing(), focus=["scheduler frozen"])


@pytest.mark.rest
def test_a_drain_that_takes_an_event_twice_is_noticed():
    """The drain's look at what it has taken already is taken out."""
    assert _caught(mutations=mutants.doubling_drain())


def test_a_guard_of_zero_is_noticed():
    """Calls take as long to be read as ever, and their slots do not allow for it."""
    assert _caught(settings=without_guard(), way_seconds=settings_of().run.guard_seconds)


def _caught(**options):
    """Return the complaints of the first seed that has any."""
    return next((verdict.complaints for verdict in (play(seed, **options) for seed in TRIES) if verdict.complaints), [])


@pytest.mark.rest
def test_the_same_seed_is_the_same_story():
    """Here, and in another process whose sets hash differently and which has played nothing before."""
    said = subprocess.run(
        [sys.executable, "-c", "from tests.simulation.case import play; print(play(3).digest)"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )

    assert said.stdout.strip() == play(3).digest


@pytest.mark.rest
def test_a_seed_that_fails_says_how_to_see_it_again(capsys):
    """The command for many seeds prints what was played, and for one its trace."""
    assert program.main(["--seed", "1", "--lines", "5"]) == 0

    said = capsys.readouterr().out
    assert "1 seeds, 1 to 1" in said
    assert "broken: none" in said


@pytest.mark.long
def test_ten_thousand_windows_with_faults_keep_every_promise(capsys):
    """The same as above, at length."""
    broken = program.main(["--windows", "10000", "--jobs", str(os.cpu_count() or 1)])

    assert not broken, capsys.readouterr().out
