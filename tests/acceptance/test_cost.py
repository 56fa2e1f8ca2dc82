"""The load that RLM puts on Redis if nothing binds: per event, and while there is nothing to do."""

from __future__ import annotations

import pytest

from benchmarks.costs import measure_idle
from benchmarks.harness.contenders import Rlm
from benchmarks.harness.work import unlimited
from benchmarks.throughput import COMMANDS, measure
from rlm.admin.watch import LOOK_SECONDS, WHOLE_LOOKS

pytestmark = [pytest.mark.alone, pytest.mark.rest]

#: A run looks around by the clock: the longer a busy machine takes, the more commands there are.
PER_EVENT, EVENTS = 42, 4000
#: With 20 warm workers: commands, and parts of a core, those of Redis too; from one whole look to the next.
PER_SECOND, CORE, SECONDS = 31, 0.01, WHOLE_LOOKS * LOOK_SECONDS
#: Whatever the machine does beside it, one try shows what RLM needs.
TRIES = 3


def test_an_event_takes_few_commands():
    """Those inside of scripts counted, and from the audit list to its record all that a run does."""
    assert any(measure(unlimited(EVENTS), Rlm())[COMMANDS] <= PER_EVENT for _ in range(TRIES))


@pytest.mark.long
def test_idle_workers_take_little():
    """They sleep until they are woken, as their supervisor and the scheduler do."""
    tries = (measure_idle(Rlm(), SECONDS) for _ in range(TRIES))
    assert any(
        idle["Redis commands/s"] <= PER_SECOND and idle["part of a core, RLM"] + idle["part of a core, Redis"] <= CORE
        for idle in tries
    )
