"""Scripts broken on purpose, to show that the simulation notices. They exist only in tests."""

from __future__ import annotations

import re

from tests.simulation.names import SOURCES


def without_fencing() -> dict[str, bytes]:
    """Return the scripts with a fencing token, none of which checks it."""
    return {
        name: re.sub(r"(?m)^if .*FENCED.*$", "", source).encode()
        for name, source in _texts().items()
        if "FENCED" in source
    }


def doubling_drain() -> dict[str, bytes]:
    """Return the drain's script without its check for known events: a repeat takes them again."""
    take = _texts()["take_chunk"]
    known = "known[index] = not no_event[index] and fields > 0"
    assert known in take
    return {"take_chunk": take.replace(known, "known[index] = false").encode()}


def _texts() -> dict[str, str]:
    return {name: source.decode() for name, source in SOURCES.items()}
