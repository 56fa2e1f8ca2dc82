"""Plays many cases in several processes."""

from __future__ import annotations

import multiprocessing
import tempfile
from typing import TYPE_CHECKING

from tests.simulation.case import Verdict, play

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Lines of a failing seed's trace that are kept.
LINES = 120


def play_all(cases: Sequence[tuple[int, bool]], jobs: int) -> Iterator[Verdict]:
    """Play seeds, each with or without steps of the clock, and yield the verdicts in their order."""
    if jobs <= 1:
        yield from map(_play, cases)
        return
    with (
        tempfile.TemporaryDirectory(prefix="rlm-simulation-") as directory,
        multiprocessing.get_context("spawn").Pool(jobs, _live_in, [directory]) as pool,
    ):
        yield from pool.imap(_play, cases, chunksize=4)


def _live_in(directory: str) -> None:
    tempfile.tempdir = directory


def _play(case: tuple[int, bool]) -> Verdict:
    seed, clock_steps = case
    verdict = play(seed, clock_steps=clock_steps)
    verdict.trace = verdict.trace[-LINES:] if verdict.complaints else []
    return verdict
