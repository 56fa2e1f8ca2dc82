"""Scripts broken on purpose, to show that the simulation would notice. They exist in tests only."""

from __future__ import annotations

import re

from tests.simulation.names import SOURCES


def without_fencing() -> dict[str, bytes]:
    """Return the scripts that carry a fencing token, none of which looks at it."""
    return {
        name: re.sub(r"(?m)^if .*FENCED.*$", "", source).encode()
        for name, source in _texts().items()
        if "FENCED" in source
    }


def forgetful_drain() -> dict[str, bytes]:
    """Return the drain's scripts without what makes them safe to repeat: neither looks at what there is already."""
    take, stage = _texts()["take_chunk"], _texts()["stage_items"]
    seen = "if not raw[index] or redis.sha1hex(raw[index]) ~= ARGV[at + index] then"
    known = "if redis.call('EXISTS', event) == 1 then"
    staged = "if staged > 0 then"
    assert seen in take
    assert known in take
    assert staged in stage
    return {
        "take_chunk": take.replace(seen, "if not raw[index] then").encode(),
        "stage_items": stage.replace(staged, "if false then")
        .replace("if redis.call('HGET', run, 'staged') then", "if false then")
        .encode(),
    }


def doubling_drain() -> dict[str, bytes]:
    """Return the drain's script without its look at events that are known: a repeat takes them in again."""
    take = _texts()["take_chunk"]
    known = "if redis.call('EXISTS', event) == 1 then"
    assert known in take
    return {"take_chunk": take.replace(known, "if false then").encode()}


def _texts() -> dict[str, str]:
    return {name: source.decode() for name, source in SOURCES.items()}
