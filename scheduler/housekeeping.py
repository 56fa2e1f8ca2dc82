"""What the conductor does between runs, a step at a time, so that the next run never waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scheduler.archivist import Archivist
from scheduler.inspection import Inspector
from scheduler.janitor import Janitor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from actors.broker import ClaimCheckBroker
    from rlm.ledger import Store
    from scheduler.leader import Leader


class Housekeeper:
    """Looks a run over, archives what is more than Redis is to keep, and removes what the dead left there."""

    def __init__(self, store: Store, broker: ClaimCheckBroker, leader: Leader) -> None:
        self._archivist = Archivist(store, leader)
        self._janitor = Janitor(store, broker, leader)
        self._inspector = Inspector(store)

    def after_run(self, record: Mapping[str, Any] | None) -> None:
        """Do a little, right after a run was closed; `record` is None where that is no longer kept.

        Raises:
            FencedError: another scheduler conducts by now.
        """
        if record is not None:
            self._inspector.after_run(record)
        self._archivist.work()
        self._janitor.step()

    def step(self) -> bool:
        """Do a step while there is nothing else to do; tell whether to go on.

        Raises:
            FencedError: another scheduler conducts by now.
        """
        self._janitor.step()
        return self._archivist.step()
