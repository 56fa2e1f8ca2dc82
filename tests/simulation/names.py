"""Names for scripts, for traces and for faults that wait for one of them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from rlm.ledger.scripts import SOURCES

if TYPE_CHECKING:
    from collections.abc import Sequence


def known_as(name: str, source: bytes) -> str:
    """Record the name of a script; return the hash by which it is called."""
    sha = hashlib.sha1(source, usedforsecurity=False).hexdigest()
    _NAMES[sha.encode()] = name
    return sha


def name_of(commands: Sequence[list[bytes]]) -> str:
    """Return the name of the script, or else of the command, that a batch begins with."""
    return _NAMES.get(commands[0][1], "") if commands[0][0] == b"EVALSHA" else commands[0][0].decode()


def words(commands: Sequence[list[bytes]]) -> str:
    """Format commands for a trace."""
    return "; ".join(
        f"{_NAMES.get(fields[1], '?')} {b' '.join(fields[3:])[:300]!r}"
        if fields[0] == b"EVALSHA"
        else repr(b" ".join(fields)[:120])
        for fields in commands[:4]
    )


_NAMES: dict[bytes, str] = {}
for _name, _source in SOURCES.items():
    known_as(_name, _source)
