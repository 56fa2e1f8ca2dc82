"""Whether any limit is set higher than its endpoint allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.admin.doctor.findings import good, warning
from rlm.ledger.breaker import limits_too_high

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.ledger import Store
    from rlm.ledger.fitness import Finding


def check_limits(store: Store) -> Iterator[Finding]:
    """Tell which endpoints refused, as too many, calls that their limits allow.

    Raises:
        StoreError: Redis did not answer.
    """
    found = limits_too_high(store)
    for one in found:
        yield warning("limits", one.sentence, f"{one.remedy}; somebody else may call with the same key as well")
    if not found:
        yield good("limits", "no endpoint refuses what its limit allows")
