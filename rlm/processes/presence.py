"""How a supervisor says that it lives: in its turns, and by a thread where a turn takes long, as a start may."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from rlm.core.clock import system_clock
from rlm.core.errors import StoreError
from rlm.ledger import Store
from rlm.ledger.processes import BRISK_SECONDS, HEARTBEAT_SECONDS, Process, Role

#: A turn that takes longer hangs, and is not spoken for, seconds: a template that has to load first may take a minute.
LONGEST_TURN_SECONDS = 90.0
#: A failed announcement is made again after this, seconds.
AGAIN_SECONDS = 0.5

log = logging.getLogger(__name__)


class Presence:
    """Announces a supervisor every `HEARTBEAT_SECONDS`, and that its workers are in the register.

    While it is `brisk` it does so every `BRISK_SECONDS`: it has workers, and others would take its share over.
    """

    def __init__(self, store: Store, entry: Process, worker_ids: Callable[[], Sequence[str]]) -> None:
        self.entry = entry
        self._store = store
        self._worker_ids = worker_ids
        self.brisk = False
        #: Others may have its share: nobody has heard of it, or not for long, or Redis failed.
        self.lapsed = True
        self._said_at, self._said_every = float("-inf"), 0.0
        self._turned_at = system_clock.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._speak, name="presence", daemon=True)

    def start(self) -> None:
        """Speak for turns that take long from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Speak no more; returns when nothing is being said."""
        self._stopped.set()
        self._thread.join()

    def turn(self) -> None:
        """Note that a turn begins, and announce the supervisor if that is due."""
        self.go_on()
        self._keep()

    def go_on(self) -> None:
        """Note that the supervisor does not hang."""
        self._turned_at = system_clock.monotonic()

    def say(self) -> None:
        """Announce the supervisor now."""
        entry, before = replace(self.entry, every=self._every_seconds), replace(self.entry, every=self._said_every)
        self.lapsed |= system_clock.monotonic() - self._said_at > before.silent_after
        self._store.processes.announce(Role.SUPERVISOR, entry)
        self._store.processes.enter(Role.WORKER, self._worker_ids())  # they say only that they live
        self._said_at, self._said_every = system_clock.monotonic(), entry.every

    @property
    def _every_seconds(self) -> float:
        return BRISK_SECONDS if self.brisk else HEARTBEAT_SECONDS

    def _keep(self) -> None:
        """Announce the supervisor if that is due, by what it said last as well."""
        if system_clock.monotonic() - self._said_at >= min(self._said_every, self._every_seconds):
            self.say()

    def _speak(self) -> None:
        pause = self._every_seconds
        while not self._stopped.wait(pause):
            pause = self._every_seconds
            if system_clock.monotonic() - self._turned_at > LONGEST_TURN_SECONDS:
                continue
            try:
                with self._store.guarded():
                    self._keep()
            except StoreError as error:
                pause = AGAIN_SECONDS
                log.debug("The supervisor cannot announce itself: %s", error, extra={"action": "announce"})
