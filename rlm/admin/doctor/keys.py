"""Keys in Redis that hold invalid data, those in quarantine, and those that killed self-tests left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.admin.doctor.findings import fault, good, warning
from rlm.core.clock import isoformat, system_clock
from rlm.core.text import safe_line
from rlm.ledger.inspection import inspect
from rlm.ledger.selftests import SelfTests

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.ledger import Store
    from rlm.ledger.fitness import Finding


#: Keys in quarantine that are named, the newest; the others are counted.
MOST_NAMED = 10


def check_keys(store: Store) -> Iterator[Finding]:
    """Check for keys of the wrong type or with invalid data, and for keys in quarantine."""
    flaws, asides = inspect(store, deep=True, records=True), store.quarantine.all()
    for flaw in flaws:
        remedy = (
            "nothing, while a scheduler leads: it sets this aside within seconds and goes on; else start one "
            "(`rlm scheduler`). Find out who wrote it"
        )
        yield fault("keys", f"{safe_line(flaw.key)} {safe_line(flaw.wrong)}", remedy)
    for aside in asides[:MOST_NAMED]:
        message = f"{aside.key} was set aside at {isoformat(aside.at)}, for it {aside.wrong}; what it held is in"
        remedy = f"find out who wrote it, save what you need, then `redis-cli DEL {safe_line(aside.where)}`"
        yield warning("keys", f"{message} {safe_line(aside.where)}", remedy)
    if len(asides) > MOST_NAMED:
        more = f"{len(asides) - MOST_NAMED:,} more keys were set aside before"
        yield warning("keys", more, f"`redis-cli HGETALL {store.keys.quarantine}` names them")
    if not flaws and not asides:
        yield good("keys", "each holds what it should")


def check_selftests(store: Store) -> Iterator[Finding]:
    """Check for keys of self-tests that were killed long ago; they use memory and do no harm."""
    left = SelfTests(store).left(system_clock.now())
    for prefix, test in left.items():
        message = f"a self-test of {isoformat(test.started_at)} on {test.host} was killed; its keys {prefix}* are left"
        yield warning("selftest", message, "the next `rlm test` removes them")
    if not left:
        yield good("selftest", "no self-test left anything behind")
