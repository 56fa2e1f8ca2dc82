"""The lease that makes one scheduler the conductor: taken, prolonged as time goes by, given up at the end."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from typing import TYPE_CHECKING

from rlm.core.clock import system_clock
from rlm.core.errors import FencedError

if TYPE_CHECKING:
    from rlm.ledger.leases import Leases

#: Seconds after which the lease of a scheduler that fell silent may be taken by a standby. An open run is to go on, or
#: be closed if it is overdue, within 5 s of its conductor's death. At the worst the lease had just been prolonged, and
#: the standby looked (service.IDLE_SECONDS) just before it ran out: 3.25 s, which leaves 1.75 s to close the run.
LEASE_SECONDS = 3.0
#: How often the holder prolongs it, seconds. It may so be held up for 2.5 s, by a plan or by Redis, and still keep it.
RENEW_SECONDS = 0.5

log = logging.getLogger(__name__)


class Leader:
    """One process's claim to conduct. `token` is 0 while another holds the lease, who is the `holder` then."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self.token = 0
        self.holder = ""
        self._renewed_at = float("-inf")

    def campaign(self) -> bool:
        """Take the lease if it is free, prolong it if it is ours; return whether we hold it."""
        now = system_clock.monotonic()
        if self.token and now - self._renewed_at < RENEW_SECONDS:
            return True
        before = self.token
        self.token, self.holder = self._leases.contend(self.owner, LEASE_SECONDS)
        self._renewed_at = now
        if self.token and not before:
            log.info("%s conducts from now on (token %d)", self.owner, self.token, extra={"action": "take_lease"})
        return bool(self.token)

    def keep(self) -> None:
        """Prolong the lease when it is time.

        Raises:
            FencedError: another scheduler took it over meanwhile; stop conducting.
        """
        before = self.token
        if not self.campaign() or self.token != before:
            raise FencedError(f"{self.owner} no longer holds the conductor's lease")

    def resign(self) -> None:
        """Give the lease up."""
        self.token = 0
        self._renewed_at = float("-inf")
        self._leases.release(self.owner)
