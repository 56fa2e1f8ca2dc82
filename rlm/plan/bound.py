"""A bound on the end that no schedule can beat. Times in ticks.

Alone and with a lane for every event, a type takes each slot of its endpoints when it opens; no schedule begins its
k-th call sooner, whatever fails. Also, the calls that cannot begin before a moment must all be done after it on the
available lanes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rlm.plan.simulate import Course
from rlm.plan.situation import Demand, Situation
from rlm.plan.window import openings


def soonest_end(situation: Situation, course: Course, lanes: int) -> int:
    """Return the earliest possible time of the last answer to the events that are answered in a course."""
    work, end = 0, 0
    soonest = [
        (at, events, demand.takes) for demand in situation.demands for at, events in _first(demand, situation, course)
    ]
    for at, events, takes in sorted(soonest, reverse=True):
        work += events * takes
        end = max(end, at + takes, at - -work // lanes if lanes else 0)
    return end


def _first(demand: Demand, situation: Situation, course: Course) -> Iterator[tuple[int, int]]:
    """Yield (moment, events): the earliest beginnings of the events of a type that a course answers."""
    late = sum(
        busy.type == demand.name and busy.is_answered and busy.ends_at > situation.deadline for busy in situation.busy
    )
    lacking = demand.events + late - course.left[demand.name]
    opening = Counter[int]()
    for route in demand.routes:
        for at, slots in openings(situation.windows[route.windows[0]], route.latest) if lacking > 0 else ():
            opening[at] += slots
    for at, slots in sorted(opening.items()):
        if lacking <= 0:
            return
        yield at, min(slots, lacking)
        lacking -= slots
