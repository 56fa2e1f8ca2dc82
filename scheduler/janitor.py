"""The janitor: what those left in Redis that died with nobody to take leave of them, and the word that they died.

While a run is open that is no matter: leases run out, and other workers go on. What stays behind is what a worker had
noted of its calls, and the messages it had fetched. Between runs nobody needs either.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from actors import dispatch
from rlm.core.alarms import Alarm, alarm
from rlm.core.clock import system_clock
from rlm.core.errors import FencedError, StoreError
from rlm.delivery.lane import LEASE_SLACK_SECONDS
from rlm.ledger.processes import HEARTBEAT_TTL_SECONDS, Role

if TYPE_CHECKING:
    from actors.broker import ClaimCheckBroker
    from rlm.ledger import Store
    from scheduler.leader import Leader

#: How often it looks, seconds.
LOOK_SECONDS = 5.0
#: Whose death it looks for.
ROLES = (Role.WORKER, Role.SCHEDULER, Role.SUPERVISOR)
#: Processes it cleans up after at one look, so that no run has to wait for it.
MOST_AT_ONCE = 50

log = logging.getLogger(__name__)


def report_death(store: Store, role: Role, process_id: str) -> None:
    """Take a scheduler or a supervisor off the register that died, and raise the alarm.

    Raises:
        StoreError: Redis did not answer.
    """
    store.processes.forget(role, process_id)
    log.warning(
        "The %s %s has not been heard of, and never signed off: it, or its host, died",
        role,
        process_id,
        extra=alarm(Alarm.PROCESS_DIED, "forget_process"),
    )


class Janitor:
    """Forgets who was not heard of for long, workers for longer than any lease lasts; only between runs.

    Since when a worker is missing shows nowhere, so only a process that has been looking for so long can tell.
    """

    def __init__(self, store: Store, broker: ClaimCheckBroker, leader: Leader) -> None:
        self._store = store
        self._broker = broker
        self._leader = leader
        longest = max(endpoint.timeout_seconds for endpoint in store.settings.endpoints.values())
        self._grace_seconds = HEARTBEAT_TTL_SECONDS + longest + LEASE_SLACK_SECONDS
        self._missed: dict[tuple[Role, str], float] = {}
        self._looked_at = float("-inf")

    def step(self) -> None:
        """Look, now and then, who is missing, and clean up after those who are for good. No run may be open.

        Raises:
            FencedError: another scheduler conducts by now, and may have a run open in which they are back.
        """
        now = system_clock.monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        try:
            missing = [(role, one) for role in ROLES for one in self._store.processes.missing(role)]
            self._missed = {one: self._missed.get(one, now) for one in missing}
            overdue = [one for one, since in self._missed.items() if now - since >= self._patience_seconds(one[0])]
            for role, process_id in overdue[:MOST_AT_ONCE]:
                self._leader.keep()
                self._forget(role, process_id)
        except FencedError:
            raise
        except StoreError as error:
            log.info("What the dead left cannot be removed yet: %s", error, extra={"action": "forget_worker"})

    def _patience_seconds(self, role: Role) -> float:
        """Say how long one is missing before it is dead. Where Redis was away, all are for as long as a heartbeat."""
        return self._grace_seconds if role is Role.WORKER else HEARTBEAT_TTL_SECONDS

    def _forget(self, role: Role, process_id: str) -> None:
        if role is Role.WORKER:
            self._forget_worker(process_id)
            return
        report_death(self._store, role, process_id)

    def _forget_worker(self, worker_id: str) -> None:
        self._store.recovery.orphan_worker(worker_id)
        dispatch.recover(self._store.recovery, self._broker, worker_id)
        self._store.processes.forget(Role.WORKER, worker_id)
        log.info(
            "Worker %s is gone, and its supervisor with it; nothing of it is left in Redis",
            worker_id,
            extra={"action": "forget_worker"},
        )
