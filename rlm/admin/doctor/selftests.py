"""What self-tests left that were killed, and nobody has removed since."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.admin.doctor.findings import good, warning
from rlm.core.clock import isoformat, system_clock
from rlm.ledger.selftests import SelfTests

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.ledger import Store
    from rlm.ledger.fitness import Finding


def check_selftests(store: Store) -> Iterator[Finding]:
    """Tell of the keys of self-tests that began long ago and did not end; they take room and do no harm."""
    left = SelfTests(store).left(system_clock.now())
    for prefix, test in left.items():
        message = f"a self-test of {isoformat(test.started_at)} on {test.host} was killed; its keys {prefix}* are left"
        yield warning("selftest", message, "the next `rlm test` removes them")
    if not left:
        yield good("selftest", "no self-test left anything behind")
