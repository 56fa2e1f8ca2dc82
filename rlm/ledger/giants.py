"""Giants: entries of a list that are too large to be read, which are set aside and read in pieces."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from rlm.ledger.connect import translated
from rlm.ledger.scripts import Part

if TYPE_CHECKING:
    import redis

    from rlm.ledger.keys import Keys

#: A giant is read so many bytes at a time; a multiple of 3, so that base64 of the pieces is that of the whole.
PIECE_BYTES = 3 * 2**18


class Giants(Part):
    """The giants of one list, entries that are too large to be read. Setting one aside needs the lease's token.

    Redis has to copy an element of a list to tell its size; for a string it does not, and can return a part of it. So
    an entry of more than `longest` bytes is moved to a string of its own when it is found. The list of what was set
    aside has its name. Nobody can guess that name, so no item is mistaken for it.
    """

    def __init__(self, client: redis.Redis, keys: Keys, entries: str, longest: int) -> None:
        """Read the list at the key `entries`, entries of at most `longest` bytes."""
        super().__init__(client, keys)
        self._entries = entries
        self._longest = longest

    def peek(self, token: int, count: int, size: int, skip: int = 0) -> tuple[str, list[bytes]]:
        """Return the name of the oldest giant, "" without one, and the oldest entries before the next giant.

        Of those at most `count` behind the `skip` oldest, and no more after `size` bytes.
        """
        keys, name = self._keys, secrets.token_hex(16)
        names = [self._entries, keys.aside(self._entries), keys.giant(name), keys.lease]
        giant, *entries = self._run("peek_items", names, [token, count, size, self._longest, name, skip])
        return giant.decode(), entries

    def size(self, name: str) -> int:
        """Return the size of a giant in bytes; 0 when it was taken meanwhile."""
        with translated(self._client):
            return self._client.strlen(self._keys.giant(name))

    def pieces(self, name: str) -> Iterator[bytes]:
        """Yield a giant piece by piece; nothing when it was taken meanwhile."""
        start = 0
        while True:
            with translated(self._client):
                piece = self._client.getrange(self._keys.giant(name), start, start + PIECE_BYTES - 1)
            if not piece:
                return
            yield cast("bytes", piece)
            start += PIECE_BYTES
