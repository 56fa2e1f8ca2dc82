"""Everything RLM keeps in Redis: the ledger, runs, dead letters, and the register of processes.

The store is imported on first use, so code that needs one module of the ledger does not wait for all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlm.ledger.store import Store

__all__ = ["Store"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rlm.ledger import store  # noqa: PLC0415  # on first use

    return getattr(store, name)
