"""The windows to come, for the pages that show them: how the leftovers develop, as `rlm plan --windows 20` has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlm.admin.planning import start_seconds
from rlm.admin.whatif import outlook_now
from rlm.web.pages.columns import Group

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rlm.ledger import Store
    from rlm.plan.outlook import Outlook
    from rlm.web.pages.documents import Documents

#: Windows to look ahead.
WINDOWS = 20
#: The classes of columns: of what is, and of what might be.
KINDS = ("left", "busy")
#: How long an outlook is shared, seconds.
_SHARED_SECONDS = 10.0


def outlook_of(documents: Documents) -> Mapping[str, Any] | None:
    """Return what the macro `outlook` of outlook.html draws; None where no whole window is on record."""
    return documents.get("outlook", _look, _SHARED_SECONDS)


def _look(store: Store) -> Mapping[str, Any] | None:
    found = outlook_now(store, start_seconds(store), WINDOWS)
    if found is None:
        return None
    arriving = sum(found.arrivals.values())
    return {"verdicts": [found.verdict], "groups": outlook_groups(found), "arriving": arriving}


def outlook_groups(*found: Outlook) -> Sequence[Group]:
    """Return a group for each window: what it leaves over, today and then as it might be."""
    groups = []
    for at in range(max(len(one.windows) for one in found)):
        ahead = [(one.windows[at], kind) for one, kind in zip(found, KINDS, strict=False) if at < len(one.windows)]
        told = ", ".join(f"{one.leftover:,} of {sum(one.events.values()):,} left over" for one, _ in ahead)
        groups.append(Group(f"window {at + 1}: {told}", [(one.leftover, kind) for one, kind in ahead]))
    return groups
