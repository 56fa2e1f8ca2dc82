"""The rule by which lanes pull, and the plan that simulates it, are the same: random worlds, compared call for call."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from msgspec import structs

from rlm.core.call import Expected
from rlm.core.endpoint import Endpoint, EventType, WindowState, all_limited
from rlm.plan.simulate import simulate
from rlm.plan.situation import Horizon, Situation, Underway, Workload
from tests.turns.virtual import Begun, VirtualWorld
from tests.turns.world import GUARD, budget, endpoint, kind

#: How many random worlds one test plays, and how many of such tests there are in the default tier and in the rest.
WORLDS, TESTS, MORE_TESTS = 8, 3, 20


class Scene:
    """A random world, in whole milliseconds: its types, what each has ready, its windows, lanes and deadline."""

    def __init__(self, seed: int) -> None:
        draw = self.draw = random.Random(seed)
        budgets = [budget(f"account{number}", self.limit()) for number in range(draw.choice((0, 0, 1, 2)))]
        pool = [
            endpoint(f"e{number}", self.limit(), draw.choice([None, *budgets]) if budgets else None)
            for number in range(draw.randint(1, 9))
        ]
        self.types: tuple[EventType, ...] = tuple(
            kind(
                f"T{number}",
                *draw.sample(pool, min(len(pool), draw.randint(1, 4))),
                priority=100 - number,
                seconds=draw.randint(1, 900) / 1000,
                share=draw.choice((0.0, 0.0, 0.0, 0.1, 0.3)),
            )
            for number in range(draw.choice((1, 2, 3, 4, 5, 6, 40)))
        )
        self.backlog = {each.name: draw.choice((0, 1, 5, draw.randint(1, 40))) for each in self.types}
        self.lanes = draw.choice((1, 2, 3, 7, 20, 100))
        self.deadline = draw.randint(500, 20_000) / 1000
        self.most = draw.random() < 0.3
        self.expected = {
            (each.name, at.name): Expected(draw.randint(1, 1500) / 1000, draw.randint(1, 2000) / 1000)
            for each in self.types
            for at in each.endpoints
            if draw.random() < 0.4
        }
        self.expected = {
            pair: structs.replace(each, needed_seconds=max(each.seconds, each.needed_seconds))
            for pair, each in self.expected.items()
        }
        self.limited = all_limited(at for each in self.types for at in each.endpoints)
        self.windows = {each.name: self.window(each) for each in self.limited if draw.random() < 0.5}

    def limit(self) -> str:
        draw = self.draw
        rules = [(draw.choice((1, 2, 5, 12)), draw.choice((0.2, 0.5, 1, 3, 10))) for _ in range(draw.choice((1, 1, 2)))]
        return "; ".join(f"{amount} per {seconds} seconds" for amount, seconds in rules)

    def window(self, limited: Any) -> WindowState:
        draw = self.draw
        rest = draw.randint(1, 4000) / 1000 if draw.random() < 0.3 else 0.0
        most = min(rule.amount for rule in limited.limit.rules)
        longest = round(1000 * max(rule.seconds for rule in limited.limit.rules))
        ages = draw.sample(range(1, longest + 200), min(longest, draw.randint(0, most + 1)))
        return WindowState(rest_seconds=rest, ages=tuple(age / 1000 for age in ages))

    def takes(self, each: EventType, at: Endpoint) -> int:
        """Return how long a call takes, microseconds."""
        found = self.expected.get((each.name, at.name))
        return round(1_000_000 * (found.seconds if found else each.processing_seconds))

    def planned(self) -> tuple[list[Begun], dict[str, int]]:
        """Return the calls as simulated, and what is left of each type."""
        # Lanes begin no call that would leave less than the slack, see `needed_seconds`.
        horizon = Horizon(self.deadline - 0.02, self.deadline, GUARD)
        work = Workload(self.backlog, self.types, self.windows, self.expected)
        course = simulate(Situation.of(work, horizon), self.lanes, most=self.most)
        return [Begun(each.at, each.type, each.endpoint) for each in course.starts], dict(course.left)

    def planned_from(self, at: int, played: list[Begun]) -> list[Begun]:
        """Return the calls as simulated from the moment `at` on, when so many were played."""
        seconds, took = (
            at / 1e6,
            {(each.name, end.name): self.takes(each, end) for each in self.types for end in each.endpoints},
        )
        ends = {end.name: end for each in self.types for end in each.endpoints}
        windows = {each.name: self.windows.get(each.name, WindowState()).later(seconds) for each in self.limited}
        for call in played:
            shared = ends[call.endpoint].budget
            for name in (call.endpoint, *([shared.name] if shared else [])):
                ages = (*windows[name].ages, (at - call.at) / 1e6)
                windows[name] = structs.replace(windows[name], ages=ages)
        for each in self.limited:  # as they are read: the newest that count
            most = max(rule.amount for rule in each.limit.rules)
            windows[each.name] = structs.replace(windows[each.name], ages=tuple(sorted(windows[each.name].ages)[:most]))
        begun = Counter(call.type for call in played)
        underway = [
            Underway(call.type, call.endpoint, (at - call.at) / 1e6)
            for call in played
            if call.at + took[call.type, call.endpoint] > at
        ]
        backlog = {name: number - begun[name] for name, number in self.backlog.items()}
        horizon = Horizon(self.deadline - 0.02 - seconds, self.deadline - seconds, GUARD, gone_seconds=seconds)
        work = Workload(backlog, self.types, windows, self.expected, underway, begun)
        course = simulate(Situation.of(work, horizon), self.lanes, most=self.most)
        return [Begun(at + each.at, each.type, each.endpoint) for each in course.starts]

    def played(self, world: VirtualWorld) -> tuple[list[Begun], dict[str, int]]:
        """Return the calls that the script gave, and what is left of each type."""
        now = world.now
        world.publish(*self.types, expected=self.expected)
        for each in self.limited:
            state = self.windows.get(each.name, WindowState())
            if state.ages:
                ages = {f"earlier {number}": now - round(1e6 * age) for number, age in enumerate(state.ages)}
                world.client.zadd(world.keys.window(each.window_id), ages)
            if state.rest_seconds:
                rest = now + round(1e6 * state.rest_seconds)
                world.client.hset(world.keys.endpoint(each.window_id), self.draw.choice(("rest", "pause")), rest)
        for name, number in self.backlog.items():
            world.ready(name, number)
        fields = {"most": "1"} if self.most else {}
        if shares := [f'["{each.name}", {each.share!r}]' for each in self.types if each.share]:
            fields["shares"] = f"[{', '.join(shares)}]"
        world.open(self.deadline, **fields)
        takes = {(each.name, at.name): self.takes(each, at) for each in self.types for at in each.endpoints}
        calls = world.play(self.lanes, takes)
        return calls, {each.name: world.client.zcard(world.keys.ready(each.name)) for each in self.types}


def play(store, monkeypatch, seeds):
    """Compare worlds."""
    for seed in seeds:
        scene = Scene(seed)
        if keys := list(store.client.scan_iter(match=f"{store.keys.prefix}*", count=1000)):
            store.client.delete(*keys)
        with monkeypatch.context() as patch:
            played, left = scene.played(VirtualWorld(store, patch))
        planned, planned_left = scene.planned()
        compare(played, planned, f"world {seed}")
        assert left == planned_left, f"world {seed}"
        if played:
            at = played[seed % len(played)].at + 1
            before = [call for call in played if call.at < at]
            compare(played[len(before) :], scene.planned_from(at, before), f"world {seed} from {at} on")


def compare(played, planned, where):
    """Compare call for call."""
    pairs = zip(played, planned, strict=False)
    place = next((place for place, (call, other) in enumerate(pairs) if call != other), min(len(played), len(planned)))
    if place < max(len(played), len(planned)):
        around = slice(max(0, place - 3), place + 4)
        pytest.fail(f"{where}, call {place}: played {played[around]}, planned {planned[around]}")


@pytest.mark.parametrize("first", range(0, TESTS * WORLDS, WORLDS))
def test_what_lanes_pull_is_what_was_simulated(store, monkeypatch, first):
    play(store, monkeypatch, range(first, first + WORLDS))


@pytest.mark.rest
@pytest.mark.parametrize("first", range(1000, 1000 + MORE_TESTS * WORLDS, WORLDS))
def test_so_it_is_in_many_more_worlds(store, monkeypatch, first):
    play(store, monkeypatch, range(first, first + WORLDS))
