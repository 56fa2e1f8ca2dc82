"""Keys that hold what cannot be there, and those that were set aside for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.admin.doctor.findings import fault, good, warning
from rlm.core.clock import isoformat
from rlm.core.text import safe_line
from rlm.ledger.inspection import inspect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.ledger import Store
    from rlm.ledger.fitness import Finding

#: So many keys set aside are named, the newest; of others only the number is told.
MOST_NAMED = 10


def check_keys(store: Store) -> Iterator[Finding]:
    """Tell which keys hold what cannot be there, of what type they should be and are, and what is in quarantine."""
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
