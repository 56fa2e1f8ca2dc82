"""The calls that a run has released, and the messages that wake lanes for them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence

from actors import messages
from actors.broker import WakingBroker
from rlm.core.clock import system_clock
from rlm.core.endpoint import EventType, Limited, all_limited
from rlm.core.expected import Pair, call_seconds, needed_seconds
from rlm.core.failpoints import crash_point
from rlm.core.trail import Counts
from rlm.core.window import WindowState
from rlm.ledger import Store
from rlm.ledger.turns import CLAIM_SECONDS, Release, Terms
from rlm.ledger.values import MICROSECONDS
from rlm.plan import choose_releases
from rlm.plan.choose_releases import MOST_AHEAD, ReleaseState, burst_of
from scheduler.leader import Leader

#: Seconds for which windows are not read again, if each has `PLENTY` times the slots that can be released meanwhile.
FRESH_SECONDS = 0.2
PLENTY = 2
#: A longer lag counts as a halt and is ignored beyond this, seconds.
MOST_LAG_SECONDS = 0.15
#: The part of a lag that remains after each turn. A forecast, up to four times a second, delays a turn; if the next
#: turn forgot that, every lane would run out of calls.
LAG_LEFT = 0.99


class Rhythm:
    """Follows how late the turns of a loop begin: on a busy host, lanes need more calls to bridge the delay."""

    def __init__(self) -> None:
        self.began_at = self._due = system_clock.monotonic()
        self._lag_seconds = MOST_LAG_SECONDS / 4  # not known yet

    def begin(self) -> float:
        """Begin a turn; return how late turns have begun recently, seconds."""
        self.began_at = system_clock.monotonic()
        self._lag_seconds = min(max(self.began_at - self._due, LAG_LEFT * self._lag_seconds), MOST_LAG_SECONDS)
        return self._lag_seconds

    def pause(self, seconds: float) -> float:
        """Set the next turn to begin `seconds` after this one began, whatever this one takes; return `seconds`."""
        self._due = self.began_at + seconds
        return seconds


class WindowViews:
    """The windows, read anew each time unless all had more slots than lanes can take meanwhile."""

    def __init__(self, store: Store, limited: Sequence[Limited]) -> None:
        self._store = store
        self._limited = limited
        self._looked_at = float("-inf")
        self._views: dict[str, WindowState] = {}

    def look(self, lanes: int) -> dict[str, WindowState]:
        """Return the windows by name, for this number of lanes."""
        now = system_clock.monotonic()
        scarce = any(one.free <= PLENTY * MOST_AHEAD * lanes for one in self._views.values())
        if scarce or now - self._looked_at >= FRESH_SECONDS:
            _, self._views = self._store.windows.look(self._limited)
            self._looked_at = now
        return self._views


class Releases:
    """Releases calls of one run, and wakes idle lanes to make them.

    Lanes take the oldest calls first. So the calls left are the newest, and the list in Redis gives their number.
    """

    def __init__(self, store: Store, broker: WakingBroker, leader: Leader, run_id: str) -> None:
        self._store = store
        self._broker = broker
        self._leader = leader
        self._run_id = run_id
        self._types: Sequence[EventType] = ()
        self.windows = WindowViews(store, ())  #: those of the endpoints that are called
        self._terms: dict[Pair, Terms] = {}
        #: The type of each released call that was not taken yet.
        self._open: deque[str] = deque()

    def follow(self, types: Sequence[EventType], revision: str) -> None:
        """Release calls of these types, with their limits, to workers of this revision from now on."""
        of = self._store.keys, self._store.settings.run.guard_seconds, revision
        self._types = types
        self.windows = WindowViews(self._store, all_limited(end for kind in types for end in kind.endpoints))
        self._terms = {
            (kind.name, endpoint.name): Terms.of(kind, endpoint, *of) for kind in types for endpoint in kind.endpoints
        }

    def count(self) -> dict[str, Counts]:
        """Return for each type its events by state, and the calls released for them."""
        waiting, released = self._store.ledger.count_waiting([kind.name for kind in self._types])
        if released > len(self._open):  # another conductor released some earlier
            self._open = deque(release.of.type for release in self._store.turns.releases())
        while len(self._open) > released:
            self._open.popleft()
        calls = Counter(self._open)
        return {name: count.release(calls[name]) for name, count in waiting.items()}

    def release(self, scene: ReleaseState, now_us: int, first_at: float | None) -> bool:
        """Release the calls that may go at `now_us`, the moment of the `scene`; return whether there were any.

        Then wake idle lanes for all calls released so far. If none were before, `first_at` is noted as the first time,
        seconds since 1970.
        """
        chosen = choose_releases.choose_releases(scene, self._types)
        if chosen:
            self._add(chosen, scene, now_us, first_at)
        self._wake(scene)
        return bool(chosen)

    def _add(
        self, chosen: Mapping[str, Sequence[str]], scene: ReleaseState, now_us: int, first_at: float | None
    ) -> None:
        deadline_us = now_us + round(scene.remaining_seconds * MICROSECONDS)
        releases = [
            Release(
                self._run_id,
                now_us + round(CLAIM_SECONDS * MICROSECONDS),
                deadline_us - round(needed_seconds(kind, name, scene.expected) * MICROSECONDS),
                deadline_us,
                round(call_seconds(kind, name, scene.expected) * MICROSECONDS),
                self._terms[kind.name, name],
            )
            for kind in self._types
            for name in chosen.get(kind.name, ())
        ]
        self._store.turns.release(self._leader.token, self._run_id, releases, first_at)
        self._open.extend(release.of.type for release in releases)
        crash_point("release.released")

    def _wake(self, scene: ReleaseState) -> None:
        """Wake an idle lane for each released call, minus the messages that wait already."""
        idle = scene.lanes - sum(count.inflight for count in scene.counts.values())
        called_for = min(len(self._open), idle)
        if called_for <= 0:
            return
        wanted = min(called_for - self._broker.count_waiting(), burst_of(scene.lanes))
        if wanted > 0:
            self._broker.enqueue_many(messages.message_for(messages.DISPATCH, self._run_id) for _ in range(wanted))
            crash_point("release.enqueued")
        self._store.processes.wake("workers")  # even if messages wait: the last wake-up may be lost
