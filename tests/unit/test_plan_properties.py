"""Properties of the plan, compared with a schedule made call by call."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from rlm.core.call import Expected
from rlm.core.endpoint import Budget, Endpoint, EventType, Limit, Rule, WindowState
from rlm.plan import best_course, compute_plan
from rlm.plan.situation import SECOND, Capacity, Horizon, Situation, Workload
from tests.values import left_over, replace

#: Times are multiples of an eighth of a second: floats count them exactly, as ticks do.
EIGHTHS = st.integers(min_value=0, max_value=48).map(lambda number: number / 8)
PERIODS = st.integers(min_value=1, max_value=32).map(lambda number: number / 8)


@dataclass(frozen=True)
class Case:
    """A small planning problem."""

    backlog: dict[str, int]
    types: tuple[EventType, ...]
    windows: dict[str, WindowState]
    deadline: float
    guard: float
    threads: int
    max_workers: int
    expected: dict[tuple[str, str], Expected] = field(default_factory=dict)

    def plan(self):
        capacity = Capacity(0, self.max_workers, self.threads)
        return compute_plan(self.workload, capacity, self.horizon)

    @property
    def workload(self):
        return Workload(self.backlog, self.types, self.windows, self.expected)

    @property
    def situation(self):
        return Situation.of(self.workload, self.horizon)

    def course(self, lanes):
        """Return the course that a plan would take on these lanes."""
        return best_course(self.situation, lanes)

    @property
    def horizon(self):
        return Horizon(self.deadline, self.deadline * 0.75, self.guard)


RULES = st.builds(Rule, amount=st.integers(1, 4), seconds=PERIODS)
LIMITS = st.lists(RULES, min_size=1, max_size=2).map(lambda rules: Limit("as drawn", tuple(rules)))
WINDOWS = st.builds(
    WindowState,
    ages=st.lists(EIGHTHS, max_size=5).map(tuple),
    rest_seconds=st.just(0.0) | EIGHTHS,
    suspect=st.sampled_from([False, False, False, True]),
)
SHARES = st.sampled_from([0.0, 0.0, 0.0, 0.25, 0.5])
TIMEOUT = 10.0
EXPECTED = st.builds(Expected, seconds=PERIODS, needed_seconds=PERIODS)


@st.composite
def cases(draw):
    """Draw a problem of up to three types with up to three endpoints each; some share endpoints, some a budget."""
    types = []
    for number in range(draw(st.integers(1, 3))):
        names = draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True))
        types.append((f"TYPE_{number}", draw(PERIODS), names))
    names = sorted({name for _, _, own in types for name in own})
    budgets = [None, Budget("x", draw(LIMITS)), Budget("y", draw(LIMITS))]
    endpoints = {
        name: Endpoint(name, name, draw(LIMITS), TIMEOUT, budget=budgets[draw(st.sampled_from([0, 0, 1, 2]))])
        for name in names
    }
    pairs = [(name, each) for name, _, own in types for each in own]
    return Case(
        backlog={name: draw(st.integers(0, 9)) for name, _, _ in types},
        types=tuple(
            EventType(name, -number, seconds, tuple(endpoints[each] for each in own), draw(SHARES))
            for number, (name, seconds, own) in enumerate(types)
        ),
        windows=draw(st.dictionaries(st.sampled_from([*names, "x", "y"]), WINDOWS)),
        deadline=draw(st.integers(1, 96)) / 8,
        guard=draw(st.sampled_from([0.0, 0.125, 0.5])),
        threads=draw(st.integers(1, 2)),
        max_workers=draw(st.integers(1, 5)),
        expected=draw(st.dictionaries(st.sampled_from(pairs), EXPECTED)),
    )


@given(case=cases())
@settings(max_examples=100, deadline=None)
def test_the_longest_queue_goes_first_only_where_everything_fits(case):
    """Otherwise priority and shares decide who waits."""
    plan = case.plan()

    assert plan.fits or not plan.most


@given(case=cases())
@settings(max_examples=100, deadline=None)
def test_a_plan_accounts_for_every_event(case):
    """Released and left over are together what waits, by type and in total, and all is answered by the deadline."""
    plan = case.plan()

    released = sum(release.events for release in plan.releases)
    assert released == plan.fitting == sum(case.backlog.values()) - left_over(plan)
    assert {name: part.events for name, part in plan.by_type.items()} == case.backlog
    assert sum(map(left_over, plan.by_type.values())) == left_over(plan)
    assert max(part.forecast_seconds for part in plan.by_type.values()) == plan.forecast_seconds <= case.deadline


@given(case=cases())
@settings(max_examples=100, deadline=None)
def test_the_workers_chosen_lose_nothing(case):
    """They leave over no more than the most would, nor end later than those or the target."""
    plan, most = case.plan(), case.course(case.max_workers * case.threads)

    assert left_over(plan) == most.leftover
    end = plan.first_call_seconds + plan.forecast_seconds
    assert end <= max(case.deadline * 0.75, most.forecast / SECOND, plan.first_call_seconds + plan.lower_bound_seconds)


@given(case=cases(), shuffled=st.randoms(use_true_random=False), lanes=st.integers(1, 10))
@settings(max_examples=150, deadline=None)
def test_no_schedule_beats_the_lower_bound(case, shuffled, lanes):
    """The forecast, and that of any other order of types and endpoints for the same events, is above the bound."""
    plan = case.plan()
    fitting = {name: part.events - left_over(part) for name, part in plan.by_type.items()}
    types = [
        replace(kind, endpoints=tuple(shuffled.sample(kind.endpoints, len(kind.endpoints)))) for kind in case.types
    ]
    shuffled.shuffle(types)

    other = replace(case, backlog=fitting, types=tuple(types)).course(min(lanes, case.max_workers * case.threads))

    assert plan.lower_bound_seconds <= plan.forecast_seconds
    if not other.leftover:
        assert plan.lower_bound_seconds <= other.forecast / SECOND
