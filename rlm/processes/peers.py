"""The other supervisors, as one of them hears them, and its own share of the workers wanted.

One that signed off is gone at once. One that is no longer in the register may have been forgotten by Redis, or the
clock of Redis was set: it keeps its share until it was silent for a heartbeat's life, counted by the clock of this host
and only while this host listened. So nobody takes all because he is the first who is back. One that speaks more often
while it has workers is missed sooner (`silent_after`).
"""

from __future__ import annotations

from dataclasses import dataclass

from rlm.core.clock import system_clock
from rlm.ledger import Store
from rlm.ledger.processes import LEFT, Process, Role
from rlm.processes.sharing import divide, most_of

#: After a longer pause between two looks silence counts from the second on, seconds: Redis may have been away, or this
#: host have stood still.
LISTENING_SECONDS = 2.0
#: One that says nothing for so many times as long as it may is overdue.
OVERDUE = 1.5


@dataclass(slots=True)
class Peer:
    """What a supervisor said last, and for how long it has said nothing since, seconds."""

    said: Process
    silent_seconds: float = 0.0

    @property
    def lives(self) -> bool:
        """Whether it was heard of lately. One that was not may stay in the register, and has to speak to live again."""
        return self.silent_seconds <= self.said.silent_after


class Peers:
    """Follows the supervisors of all hosts by what they say."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._peers: dict[str, Peer] = {}
        self._looked_at = system_clock.monotonic()

    def look(self) -> dict[str, Process | None]:
        """Hear who lives; return what the register says, by id: None of those that it has not heard of lately."""
        now = system_clock.monotonic()
        listened = now - self._looked_at
        found = self._store.processes.heard(Role.SUPERVISOR, self._peers)
        for peer in (one for one in self._peers.values() if one.lives):
            peer.silent_seconds = peer.silent_seconds + listened if listened <= LISTENING_SECONDS else 0.0
        for name, one in found.items():
            known = self._peers.get(name)
            if one is not None and (known is None or not one.said_at or one.said_at != known.said.said_at):
                self._peers[name] = Peer(one)
        self._looked_at = now
        self._peers = {
            name: peer
            for name, peer in self._peers.items()
            if peer.said.state != LEFT and (peer.lives or found.get(name) is not None)
        }
        return found

    @property
    def living(self) -> list[Process]:
        """What those said last that live."""
        return [peer.said for peer in self._peers.values() if peer.lives]

    @property
    def overdue(self) -> bool:
        """Whether one that lives should have spoken by now."""
        return any(peer.silent_seconds > OVERDUE * peer.said.every > 0 for peer in self._peers.values() if peer.lives)

    @property
    def most(self) -> int:
        """How many workers there may be over all hosts, as far as anybody that lives says so."""
        return most_of(self.living)

    def share_of(self, own: Process) -> int:
        """Return how many of the workers wanted are `own`'s, whatever the register says of that one."""
        every = {one.id: one for one in self.living} | {own.id: own}
        return divide(self._store.processes.wanted(), every.values(), self._store.hosts.idle())[own.id]
