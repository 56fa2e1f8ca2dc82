"""A world in virtual time: the scripts read a clock that the test sets, so that runs are exact and take no time.

Lanes make calls that take exactly the expected times. Idle lanes behave as those of one process: one of them asks, at
the moment that the last turn named.
"""

from __future__ import annotations

import heapq
from functools import cache
from typing import NamedTuple

import pytest

from rlm.ledger.scripts import Part, Script
from rlm.ledger.store import Store
from rlm.ledger.turns import Settlement, TurnReply
from tests.turns.world import LaneDouble, World, completed

_CLOCK = b"redis.call('TIME')"


class Begun(NamedTuple):
    """A call that began, microseconds after the run did."""

    at: int
    type: str
    endpoint: str


class VirtualWorld(World):
    """A world whose scripts read its clock."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = f"{store.keys.prefix}clock"
        virtual = f"redis.call('LRANGE', '{clock}', 0, 1)".encode()
        assert _CLOCK in Script("turn").source
        read = cache(lambda name: Script(name, Script(name).source.replace(_CLOCK, virtual)))
        monkeypatch.setattr(Part, "_script", staticmethod(read))
        self.clock, self.instant = clock, store.now_us()
        store.client.rpush(clock, 0, 0)
        monkeypatch.setattr(store, "now_us", lambda: self.instant)
        super().__init__(store)
        self.set(self.instant)

    @property
    def expected_now(self) -> int:
        """The time as lanes expect it."""
        return self.instant

    @property
    def now_us(self) -> int:
        """The time, microseconds."""
        return self.instant

    def set(self, now: int) -> None:
        """Let it be `now`, microseconds."""
        self.instant = now
        self.client.lset(self.clock, 0, str(now // 1_000_000))
        self.client.lset(self.clock, 1, str(now % 1_000_000))

    def play(self, lanes: int, takes: dict[tuple[str, str], int]) -> list[Begun]:
        """Let so many lanes carry events until the run is to be closed; `takes`: of each type at each endpoint, us."""
        began, idle, calls = self.instant, [self.lane(number) for number in range(lanes, 0, -1)], []
        busy: list[tuple[int, int, LaneDouble, Settlement]] = []
        asks_at: int | None = began

        def turn(lane: LaneDouble, settlement: Settlement | None) -> int | None:
            """Ask; return when the next idle lane is to ask, None if nothing more can be done."""
            reply: TurnReply = lane.ask(settlement)
            if call := reply.call:
                calls.append(Begun(self.instant - began, call.type, call.endpoint))
                ends = self.instant + takes[call.type, call.endpoint]
                heapq.heappush(busy, (ends, len(calls), lane, completed(call)))
                return asks_at
            idle.append(lane)
            assert reply.wait is not None or reply.close, reply
            return None if reply.wait is None else self.instant + reply.wait

        while busy or (idle and asks_at is not None):
            if idle and asks_at is not None and (not busy or asks_at < busy[0][0]):
                self.set(max(self.instant, asks_at))
                asks_at = turn(idle.pop(), None)
            else:
                ends, _, lane, settlement = heapq.heappop(busy)
                self.set(ends)
                asks_at = turn(lane, settlement)
        return calls
