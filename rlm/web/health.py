"""Whether RLM is up, in one sentence: what `/healthz` answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.core.errors import StoreError
from rlm.ledger.processes import Role

if TYPE_CHECKING:
    from rlm.ledger import Store


def trouble(store: Store) -> str:
    """Say why RLM is not up, empty where it is: Redis answers and a scheduler lives.

    Whoever can reach the port may read it, so it says neither where Redis is nor who may log in.
    """
    try:
        schedulers = store.processes.alive(Role.SCHEDULER)
    except StoreError:
        return "Redis does not answer; `rlm doctor` on this host says more"
    return "" if schedulers else "no scheduler lives; `rlm scheduler` starts one"


def redis_trouble(store: Store) -> str:
    """Say why Redis does not answer, and what to do, empty where it does. It names the place: for the log only."""
    try:
        store.ping()
    except StoreError as error:
        return str(error)
    return ""
