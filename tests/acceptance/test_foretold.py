"""The leftovers of a run are those that its plan predicted before the first call."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tests.acceptance.system import make_item
from tests.store.windows import pass_time, take

pytestmark = [pytest.mark.alone, pytest.mark.rest]

#: How many slots of each endpoint the half-used windows have given, and how long ago, seconds.
USED = 15
USED_SECONDS_AGO = 3.0
#: Events of each type; the limits let through 360.
COUNTS = (900, 100, 500, 50, 400)
FIT = 360


@pytest.mark.long
def test_what_is_left_over_is_what_was_foretold(make_system):
    """A skewed overload on half-used windows: exact by type, the limits used up and none of them exceeded."""
    with make_system() as system:
        by_type = dict(zip(system.types, COUNTS, strict=True))
        items = [make_item(f"{name}-{number}", name) for name, count in by_type.items() for number in range(count)]
        random.Random(1).shuffle(items)
        events = system.push(items)
        system.start_both()
        for endpoint in system.settings.endpoints.values():
            take(system.store, endpoint, USED)
            pass_time(system.store, endpoint, USED_SECONDS_AGO)

        record = system.await_record(system.ask_for_run())

        assert record["plan"]["expected_leftover"] == record["counts"]["leftover"] > 0
        left = Counter(event.rpartition(":")[2] for event in system.pending())
        assert left == {name: count - FIT for name, count in by_type.items() if count > FIT}
        assert not system.repeats()
        system.assert_promises(events, [record])
