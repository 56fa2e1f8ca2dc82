"""Giants: list entries too large to read, which are set aside from their list."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rlm.ledger.scripts import Part

if TYPE_CHECKING:
    from rlm.ledger.front import StoreFront

#: A giant is read in pieces of this many bytes, a multiple of 3 so that their base64 can be concatenated.
PIECE_BYTES = 3 * 2**18


class Giants(Part):
    """The giants of one list, which are entries too large to read. Setting one aside requires the lease's token.

    Redis must copy a list element to tell its size. For a string it need not, and can return a part of it. So an entry
    of more than `longest` bytes is moved to a string when it is found, and the aside list gets the string's name.
    Nobody can guess that name, so no item is mistaken for it.
    """

    def __init__(self, store: StoreFront, entries: str, longest: int) -> None:
        """Read the list at the key `entries`, which should have entries of at most `longest` bytes."""
        super().__init__(store)
        self._entries = entries
        self._longest = longest

    def peek(self, token: int, count: int, size: int, skip: int = 0) -> tuple[str, list[bytes]]:
        """Return the name of the oldest giant ("" if none), and the oldest entries before the next giant.

        These are at most `count` after the `skip` oldest, and end after `size` bytes.
        """
        keys, name = self._keys, secrets.token_hex(16)
        names = [self._entries, keys.aside(self._entries), keys.giant(name), keys.lease]
        giant, *entries = self._run("peek_items", names, [token, count, size, self._longest, name, skip])
        return giant.decode(), entries

    def size(self, name: str) -> int:
        """Return the size of a giant in bytes, 0 if it was taken meanwhile."""
        return int(self._ask("STRLEN", self._keys.giant(name)))

    def pieces(self, name: str) -> Iterator[bytes]:
        """Yield a giant piece by piece; nothing if it was taken meanwhile."""
        start = 0
        while piece := self._ask("GETRANGE", self._keys.giant(name), start, start + PIECE_BYTES - 1):
            yield piece
            start += PIECE_BYTES
