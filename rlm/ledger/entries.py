"""Entries of a list in Redis, read by scripts: as many as a number of bytes allows, oldest first."""

from __future__ import annotations

from itertools import accumulate, pairwise

from rlm.ledger.scripts import ScriptReply


class Entries(ScriptReply, frozen=True):
    """Entries, oldest first, one behind the other in `joined`: an answer for each would cost its reader more.

    `length` is that of the list, and `giant` the size of an entry that is too large to be read, before which they end;
    both only of scripts that say so.
    """

    joined: bytes = b""
    sizes: tuple[int, ...] = ()
    length: int = 0
    giant: int = 0

    @property
    def each(self) -> list[bytes]:
        """Return them one by one."""
        return [self.joined[first:end] for first, end in pairwise(accumulate(self.sizes, initial=0))]
