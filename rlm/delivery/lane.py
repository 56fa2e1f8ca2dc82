"""The lanes of a worker process: each carries one released event after the other."""

from __future__ import annotations

import itertools
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from rlm.core.clock import system_clock
from rlm.core.errors import StoreError
from rlm.core.event import type_of
from rlm.delivery.attempt import Attempt, LaneContext, lease_seconds
from rlm.delivery.effects import Rests

if TYPE_CHECKING:
    from rlm.core.endpoint import EventType
    from rlm.delivery import Dispatcher
    from rlm.ledger import Store
    from rlm.ledger.events import Release
    from rlm.settings import Settings

#: How long a lane rests whose worker carries another event alone, or has to end others first, seconds.
_ALONE_SECONDS = 0.25


class Lanes:
    """The lanes of one worker process: `carry` is called by as many threads as it has lanes."""

    def __init__(self, store: Store, settings: Settings, dispatcher: Dispatcher, worker_id: str) -> None:
        self._store = store
        self._settings = settings
        self._dispatcher = dispatcher
        self._worker_id = worker_id
        self._types = {event_type.name: event_type for event_type in settings.event_types}
        self._rests = Rests()
        self._numbers = itertools.count(1)
        self._of_thread = threading.local()
        #: The open run has another configuration: this worker must be replaced.
        self.outdated = False
        #: This worker is about to end: what waits to be carried alone is not waited for.
        self.leaving = False

    def carry(self, release: Release) -> None:
        """Carry one released event as far as it goes. Whatever happens it is settled, given back, or its lease ends."""
        event_type = self._types.get(type_of(release.event_id))
        if event_type is None:
            self._look_at_revision()
            return
        patient_until = system_clock.monotonic() + lease_seconds(self._types.values())  # all leases of now end by then
        while (why := self._try(release, event_type, patient_until)) == "waits":
            if self.leaving:
                with suppress(StoreError):
                    self._store.ledger.void_fetched([release])
                return
            system_clock.sleep(_ALONE_SECONDS)
        if why == "alone":
            system_clock.sleep(_ALONE_SECONDS)  # else it fetched the next event at once, and that in vain as well

    def _look_at_revision(self) -> None:
        """Note whether the open run has another configuration; the type of a forged claim check is in neither."""
        with suppress(StoreError):
            run = self._store.runs.current()
            self.outdated |= run is not None and run.revision != self._settings.revision

    def _try(self, release: Release, event_type: EventType, patient_until: float) -> str:
        """Carry the event now; return why it could not be claimed, or an empty string."""
        patient = system_clock.monotonic() < patient_until
        attempt = Attempt.claim(self._lane(), release, event_type, patient=patient)
        if isinstance(attempt, Attempt):
            attempt.finish()
            return ""
        self.outdated |= attempt.why == "revision"
        return attempt.why

    def _lane(self) -> LaneContext:
        """Return the lane of this thread; lanes are numbered from 1 as they come up."""
        lane: LaneContext | None = getattr(self._of_thread, "lane", None)
        if lane is None:
            works_with = self._store, self._settings, self._dispatcher, self._worker_id, self._rests
            lane = self._of_thread.lane = LaneContext(*works_with, next(self._numbers))
        return lane
