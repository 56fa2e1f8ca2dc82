"""Reads a list of items page by page, the oldest first, without changes and also while a drain takes them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import NamedTuple

from rlm.ledger import Store
from rlm.ledger.scripts import CHUNK


class ItemPage(NamedTuple):
    """Some items of a list, the oldest first; it had `until` items up to the last of them, and `behind` newer ones."""

    items: list[bytes]
    until: int
    behind: int


def pages(store: Store, items: str, skip: int = 0, most: int = sys.maxsize) -> Iterator[ItemPage]:
    """Yield pages of a list of items, the `most` oldest of them, the oldest first and without the `skip` oldest.

    An item that is too large to be taken comes back empty. If staged items are taken meanwhile, the next page begins
    behind the last one all the same, and so many more are read, but never twice as many as `most`.
    """
    until, end, read = skip, skip + most, 0
    while until < end and read < 2 * most:
        count = min(end - until, CHUNK) if read < most else CHUNK  # else those taken meanwhile may be as many each time
        length, page = store.intake.look(items, skip, count)
        until = (skip if skip >= 0 else max(0, length + skip)) + len(page)
        read += len(page)
        if page:
            yield ItemPage(page, until, length - until)
        if not page or until == length:
            return
        # Staging shrinks at its old end only; the audit list grows at its new end only.
        skip = until - length if items == store.keys.processing else until
