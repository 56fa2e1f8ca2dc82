"""The windows to come, for the pages that show them: how the leftovers develop, as `rlm plan --windows 20` has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlm.admin.planning import start_seconds
from rlm.admin.whatif import outlook_now
from rlm.web.pages.plots import Column

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rlm.ledger import Store
    from rlm.plan.outlook import Outlook
    from rlm.web.pages.documents import Documents

#: Windows to look ahead.
WINDOWS = 20
#: Nothing, between columns that belong together and the next of these.
GAP = Column("", ())
#: The classes of columns: of what is, and of what might be.
KINDS = ("left", "busy")
#: How long an outlook is shared, seconds.
_SHARED_SECONDS = 10.0


def outlook_of(documents: Documents) -> Mapping[str, Any] | None:
    """Return what the macro `outlook` of outlook.html draws; None where no whole window is on record."""
    return documents.get("outlook", _look, _SHARED_SECONDS)


def _look(store: Store) -> Mapping[str, Any] | None:
    found = outlook_now(store, start_seconds(store), WINDOWS)
    return outlook_values(found) if found else None


def outlook_values(*found: Outlook) -> Mapping[str, Any]:
    """Return what the macro draws of an outlook, or of today's and the one of what might be."""
    return {
        "verdicts": [one.verdict for one in found],
        "columns": _columns(found) if any(one.leftover for each in found for one in each.windows) else [],
        "windows": max(len(one.windows) for one in found),
        "arriving": sum(found[-1].arrivals.values()),
    }


def _columns(found: Sequence[Outlook]) -> Sequence[Column]:
    """Return columns for each window: what it leaves over, today and beside it as it might be."""
    drawn = []
    for at in range(max(len(one.windows) for one in found)):
        for name, kind, one in zip(("", "what if ") if len(found) > 1 else ("",), KINDS, found, strict=False):
            ahead = one.windows[at] if at < len(one.windows) else None
            left, of = (ahead.leftover, sum(ahead.events.values())) if ahead else (0, 0)
            drawn.append(Column(f"window {at + 1}: {name}{left:,} of {of:,} left over", [(left, kind)]))
        drawn += [GAP] * (len(found) - 1)
    return drawn
