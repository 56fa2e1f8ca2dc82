"""Thousands of simulated windows with faults: `python -m tests.simulation --windows 10000 --jobs 2`.

How it works
    The planner, the scheduler with its conductor and leader, the supervisor, the lanes of the workers, the ledger and
    the broker are RLM's own code (`rlm`, `scheduler`, `actors`), untouched. Under them everything is simulated, in one
    thread: each process is a `Host`, each of its threads a greenlet, on one scheduler with fake time (`loop.py`). Redis
    is fakeredis with the real Lua scripts (`server.py`), its clock the simulated one. Between it and each process lies
    a network that loses, cuts, delays and repeats (`world.py`); the API has a strict log of its own (`api.py`).
    `seams.py` puts all that in place of clocks, pipes, threads, processes and sockets; `faults.py` decides what goes
    wrong; `case.py` plays one case and judges it.

    A case is one installation under one seed: eight windows of three seconds with faults, then some without. Safety is
    judged after each window, at the instant: nothing lost, each event in one place, counted once in all records
    together, no limit exceeded as the API saw it, the books of ledger and records balanced, nothing sent that is
    settled, no repeat without a reason. Liveness is judged once the faults have stopped: runs start on time, and
    everything is done. A seed that fails is a reproduction: `python -m tests.simulation --seed N` plays it again with
    RLM's own log and every call to Redis in its trace.

What it cannot show
    Threads are switched where they wait or talk to Redis, nowhere else: a race inside one process between two of
    its own lines is not seen. dramatiq's own worker threads, processes, signals, sockets, HTTP and APScheduler are
    stood in for; the tests of faults on real processes have those. fakeredis is not Redis: that each script does
    the same on the real ones is shown in tests/store. A call is always read within the guard, for nothing is
    promised of others. A The clock of Redis is set once in a case at the most: of several steps, with another
    conductor in between, nobody may know what was followed. A Redis that comes back empty loses what it held:
    `Server.restart(empty=True)` is the place for it, and its own tests are in tests/faults.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

from tests.simulation.case import FAULTY_WINDOWS, Verdict, play
from tests.simulation.many import LINES, play_all

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Play many seeds, or one again with its trace; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Simulated windows with faults.")
    parser.add_argument("--windows", type=int, default=1000, help="windows with faults to play")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--jobs", type=int, default=2, help="processes to play with")
    parser.add_argument("--seed", type=int, help="play this one only, and print its trace")
    parser.add_argument("--lines", type=int, default=LINES, help="lines of a trace that are printed")
    asked = parser.parse_args(argv)
    if asked.seed is not None:
        verdict = play(asked.seed, keeps_log=True)
        print("\n".join(verdict.trace[-asked.lines :]))
        print(summary([verdict], verdict.seconds))
        return int(bool(verdict.complaints))
    began = time.monotonic()
    seeds = range(asked.first, asked.first + -(-asked.windows // FAULTY_WINDOWS))
    verdicts = []
    for verdict in play_all(seeds, asked.jobs):
        verdicts.append(verdict)
        if verdict.complaints:
            print(failure(verdict), flush=True)
    print(summary(verdicts, time.monotonic() - began))
    return int(any(one.complaints for one in verdicts))


def failure(verdict: Verdict) -> str:
    """Print what a seed broke, its course, and how to reproduce it."""
    return "\n".join(
        [
            *verdict.trace[-LINES:],
            f"Seed {verdict.seed} broke a promise:",
            *(f"  {one}" for one in verdict.complaints[:10]),
            f"Again, with all of its trace: python -m tests.simulation --seed {verdict.seed}",
        ]
    )


def summary(verdicts: Sequence[Verdict], seconds: float) -> str:
    """Print what was played, and the result."""
    faults: Counter[str] = Counter()
    for one in verdicts:
        faults.update(one.faults)
    broken = [one.seed for one in verdicts if one.complaints]
    sums = {
        "windows with faults": sum(one.faulty_windows for one in verdicts),
        "windows without": sum(one.windows - one.faulty_windows for one in verdicts),
        "runs": sum(one.runs for one in verdicts),
        "events": sum(one.events for one in verdicts),
        "calls": sum(one.calls for one in verdicts),
        "repeated calls": sum(one.repeats for one in verdicts),
        "faults": faults.total(),
    }
    lines = [f"{len(verdicts)} seeds, {verdicts[0].seed} to {verdicts[-1].seed}, in {seconds:.0f} s"]
    lines += [f"{number:9d} {what}" for what, number in [*sums.items(), *sorted(faults.items())]]
    lines.append(f"broken: {broken or 'none'}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
