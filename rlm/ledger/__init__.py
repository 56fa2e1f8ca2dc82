"""Everything RLM keeps in Redis: the ledger, the runs, the dead letters, who is alive."""

from __future__ import annotations

from rlm.ledger.outage import revive
from rlm.ledger.store import Store, open_store

__all__ = ["Store", "open_store", "revive"]
