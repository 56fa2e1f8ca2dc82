"""The simulated API: its answers, when it read each call, and the dispatcher that reaches it.

It keeps the promise that a limit rests on: a call is read within the guard of getting its slot. A lane sends within 0.4
of the guard of asking for one; so the way takes at most `WAY_SHARE` of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlm.delivery import outcome as kinds
from rlm.delivery.connection import UnreachableError
from rlm.delivery.outcome import Outcome, Unreachable, classify

if TYPE_CHECKING:
    from rlm.core.endpoint import Endpoint
    from rlm.delivery.http_message import Request
    from tests.simulation.loop import Host
    from tests.simulation.world import World

#: The share of the guard that a call may be on its way.
WAY_SHARE = 0.59


@dataclass(slots=True)
class Arrival:
    """One call as the API saw it, `at` seconds of the simulation, with the facts needed to judge a repeat.

    `accepted` is always true, because the limit is a promise about arrivals.
    """

    at: float
    endpoint: str
    event_id: str
    attempt: int
    run_id: str
    status: int | None
    host: Host
    sent_at: float
    accepted: bool = True
    answered: bool = False


@dataclass(slots=True)
class _Connection:
    """A connection, and its call in flight: when its answer comes, if ever."""

    arrival: Arrival | None = None
    answer_at: float = 0.0
    headers: dict[str, str] | None = None
    breaks: bool = False
    usable: bool = True

    def is_usable(self) -> bool:
        """Whether it may serve another call."""
        return self.usable


class SimulatedDispatcher:
    """Replaces `rlm.delivery.Dispatcher` in one worker."""

    def __init__(self, world: World, host: Host) -> None:
        self._world = world
        self._host = host

    def connect(self, endpoint: Endpoint, seconds: float, *, fresh: bool = False) -> Any:
        """Connect, or be refused, or reach nobody in time."""
        world = self._world
        fault = world.faults.connecting(endpoint.name)
        if fault == "refuse":
            world.loop.sleep(0.001)
            raise UnreachableError(f"no connection to {endpoint.name}: refused", kinds.REFUSED)
        if fault == "nobody":
            world.loop.sleep(seconds)
            raise UnreachableError(f"no connection to {endpoint.name}: timed out", kinds.NO_ANSWER)
        world.loop.sleep(world.rng.uniform(0.0001, 0.003))
        return _Connection()

    def reach(self, endpoint: Endpoint) -> None:
        """Connect before an event is claimed."""
        self.connect(endpoint, endpoint.timeout_seconds)

    @property
    def in_doubt(self) -> bool:
        """Make some first attempts take their slot once they are connected."""
        return self._world.rng.random() < 0.4

    def keep(self, endpoint: Endpoint, connection: Any) -> None:
        """Connections cost nothing here."""

    def close(self) -> None:
        """Connections cost nothing here."""

    def send(
        self, connection: _Connection, endpoint: Endpoint, request: Request, deadline: float
    ) -> Unreachable | None:
        """Send: the call is on its way from this instant, whatever happens to its worker."""
        world, rng, now = self._world, self._world.rng, self._world.loop.now
        world.judge_sending(request.event_id, endpoint.name, self._host)
        answer = world.faults.answer(endpoint.name, request.event_id)
        if answer.unsent:
            return Unreachable("the request could not be sent completely: cut", None, kinds.CUT)
        arrival = Arrival(
            at=now + rng.uniform(0.0, WAY_SHARE * world.guard_seconds),
            endpoint=endpoint.name,
            event_id=request.event_id,
            attempt=request.attempt,
            run_id=request.run_id,
            status=answer.status,
            host=self._host,
            sent_at=now,
        )
        world.arrivals.append(arrival)
        world.note(f"{self._host.name} sends {request.event_id} to {endpoint.name}, read {arrival.at:.6f}")
        if answer.kills:
            world.count("worker killed by an event")
            world.loop.kill(self._host)
        if answer.cut:
            return Unreachable("the request could not be sent completely: cut", None, kinds.CUT)
        connection.arrival, connection.headers, connection.breaks = arrival, answer.headers, answer.breaks
        connection.answer_at = arrival.at + answer.seconds
        return None

    def receive(self, connection: _Connection, endpoint: Endpoint, sent_at: float, deadline: float) -> Outcome:
        """Wait for the answer, by the deadline."""
        loop, arrival = self._world.loop, connection.arrival
        assert arrival is not None
        comes = arrival.status is not None and connection.answer_at < deadline
        loop.sleep(max(0.0, min(connection.answer_at if comes else deadline, deadline) - loop.now))
        waited = loop.now - sent_at
        if not comes or loop.now >= deadline:
            return Unreachable(f"no answer within {waited:.1f} s", None, kinds.NO_ANSWER)
        if connection.breaks:
            return Unreachable(f"the connection broke after {waited:.1f} s: reset", None, kinds.CUT)
        arrival.answered = True
        retry_after = [value for name, value in (connection.headers or {}).items() if name == "retry-after"]
        return classify(arrival.status or 0, retry_after, "", waited, loop.now)
