"""Plays many cases in several processes."""

from __future__ import annotations

import multiprocessing
import tempfile
from typing import TYPE_CHECKING

from tests.simulation.case import Verdict, play

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Lines of a failing seed's trace to keep.
LINES = 120


def play_all(seeds: Sequence[int], jobs: int) -> Iterator[Verdict]:
    """Play seeds, and yield the verdicts in their order."""
    if jobs <= 1:
        yield from map(_play, seeds)
        return
    with (
        tempfile.TemporaryDirectory(prefix="rlm-simulation-") as directory,
        multiprocessing.get_context("spawn").Pool(jobs, _live_in, [directory]) as pool,
    ):
        yield from pool.imap(_play, seeds, chunksize=4)


def _live_in(directory: str) -> None:
    tempfile.tempdir = directory


def _play(seed: int) -> Verdict:
    verdict = play(seed)
    verdict.trace = verdict.trace[-LINES:] if verdict.complaints else []
    return verdict
