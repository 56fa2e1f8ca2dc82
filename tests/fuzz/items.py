"""Unusual items: noise, JSON of any shape, and damaged good items."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Sequence
from typing import Any

#: `queue.max_item_bytes` by default.
BOUND = 65_536
FIELDS = ("id", "wallet_name", "events", "priority", "worker_id", "timestamp", "retry_count", "note", "")
#: The tokens of token soup; each has been a problem for some JSON reader.
TOKENS = (
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b" ", b"\n", b"\t", b"\0", b"\x7f", b"\xff", b"\xc0\x80"),
    *(b"null", b"true", b"false", b"NaN", b"Infinity", b"-Infinity", b"-0", b"0", b"1e999", b"1e-999", b"0.5"),
    *(
        b"9" * 40,
        b'"id"',
        b'"wallet_name"',
        b'"events"',
        b'"priority"',
        b'"\\u0069d"',
        b'"\\ud800"',
        b'"a"',
        b"//",
        b"'",
    ),
    *(b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xe2\x80\xae", b"\xe2\x80\xa8", b"\x1b]0;x\x07", b"\x9b31m", b"\xc2\x9b"),
)
_TYPES = ("NO_SUCH_TYPE",)
_TEXTS = (
    "",
    "i1",
    "w",
    "a:b",
    "i 1",
    "ä",
    "\u202e",
    "\u200b",
    "\x1b[2J",
    "\x00",
    "\r\nX: y",
    "😀",
    "i" * 201,
    "w" * 501,
)


def random_item(random: random.Random, types: Sequence[str]) -> bytes:
    """Return noise, token soup, any JSON, or an object with the right fields and any values."""
    match random.randrange(4):
        case 0:
            return random.randbytes(random.randrange(200))
        case 1:
            return b"".join(random.choices(TOKENS, k=random.randrange(25)))
        case 2:
            return _write(random, _value(random, types, 4))
        case _:
            names = [name for name in FIELDS if random.random() < (0.95 if name in FIELDS[:3] else 0.3)]
            random.shuffle(names)
            return _write(random, {name: _field(random, name, types) for name in names})


def good_item(random: random.Random, types: Sequence[str]) -> dict[str, Any]:
    """Return a good item; ids come from a small set, so that some are repeated."""
    document = {
        "id": f"i{random.randrange(1000)}",
        "wallet_name": random.choice(("wallet_001", "ö", "w" * 500, '"', "a\\b")),
        "events": random.choices(types, k=random.randrange(1, 4)),
    }
    if random.random() < 0.5:
        document |= {"priority": random.randrange(101), "n": _value(random, types, 2)}
    return document


def sized_item(random: random.Random, types: Sequence[str]) -> bytes:
    """Return a good item of any size up to the bound, or slightly more; most are small, as in production."""
    document = {
        "id": f"i{random.getrandbits(64)}",
        "wallet_name": "wallet",
        "events": random.choices((*types, *types, *_TYPES), k=random.randrange(1, 4)),
    }
    if random.random() < 0.001:
        document["events"] = [f"X{index}" for index in range(100)]
    size = random.choices((300, 8000, BOUND + 500, 900_000), (900, 90, 10, 0.1))[0]
    raw = json.dumps(document).encode()
    return raw[:-1] + b', "x": "' + b"x" * (random.randrange(size) - len(raw)) + b'"}'


def mutated_item(random: random.Random, types: Sequence[str]) -> bytes:
    """Return a good item with one to four mutations."""
    item = _write(random, good_item(random, types))
    for _ in range(random.randrange(1, 5)):
        item = random.choice(_MUTATIONS)(random, item, types)
    return item


def _write(random: random.Random, value: Any) -> bytes:
    """Return JSON in one of four spellings; text that UTF-8 cannot encode becomes invalid bytes."""
    indent = None if random.random() < 0.9 else 1
    return json.dumps(value, ensure_ascii=random.random() < 0.5, indent=indent).encode("utf-8", "surrogatepass")


def _value(random: random.Random, types: Sequence[str], depth: int) -> Any:
    if depth and random.random() < 0.3:
        values = [_value(random, types, depth - 1) for _ in range(random.randrange(5))]
        return values if random.random() < 0.3 else {random.choice((*FIELDS, *_TEXTS)): value for value in values}
    match random.randrange(5):
        case 0:
            return random.choice((None, True, False, float("nan"), float("inf"), 1e308, -0.0, 0.1))
        case 1:
            return random.choice((random.randrange(-200, 200), random.getrandbits(70), 10 ** random.randrange(400)))
        case 2:
            return random.choice((*types, "NO_SUCH_TYPE", "a:b"))
        case 3:
            return "".join(random.choices(string.printable, k=random.randrange(20)))
        case _:
            return random.choice(_TEXTS)


def _field(random: random.Random, name: str, types: Sequence[str]) -> Any:
    """Return a value that mostly suits the field, so that later rules are reached too."""
    if random.random() < 0.1:
        return _value(random, types, 2)
    match name:
        case "events":
            return random.choices((*types, "NO_SUCH_TYPE", "a:b", "", "\u202e"), k=random.randrange(5))
        case "priority":
            return random.choice((0, 5, 100, 101, -1, 1.0, 0.5, 1e300, True))
        case _:
            return random.choice((*_TEXTS, f"i{random.randrange(1000)}"))


def _flip(random: random.Random, item: bytes, _types: Sequence[str]) -> bytes:
    if not item:
        return item
    at = random.randrange(len(item))
    return item[:at] + bytes([item[at] ^ (1 << random.randrange(8))]) + item[at + 1 :]


def _cut(random: random.Random, item: bytes, _types: Sequence[str]) -> bytes:
    start, end = sorted(random.randrange(len(item) + 1) for _ in range(2))
    return item[:start] + item[end:]


def _insert(random: random.Random, item: bytes, _types: Sequence[str]) -> bytes:
    at = random.randrange(len(item) + 1)
    return item[:at] + random.choice(TOKENS) + item[at:]


def _repeat(random: random.Random, item: bytes, _types: Sequence[str]) -> bytes:
    start, end = sorted(random.randrange(len(item) + 1) for _ in range(2))
    times = random.choice((1, 1, 1, 200)) if end - start < 500 else 1  # not gigabytes after a few of these
    return item[:end] + item[start:end] * times + item[end:]


def _end_early(random: random.Random, item: bytes, _types: Sequence[str]) -> bytes:
    return item[: random.randrange(len(item) + 1)]


def _splice(random: random.Random, item: bytes, types: Sequence[str]) -> bytes:
    other = _write(random, good_item(random, types))
    return item[: random.randrange(len(item) + 1)] + other[random.randrange(len(other)) :]


def _add_field(random: random.Random, item: bytes, types: Sequence[str]) -> bytes:
    """Put a field at the beginning, which may be there already."""
    if not item.startswith(b"{"):
        return item
    name = random.choice(FIELDS)
    field = json.dumps(name).encode() + b": " + _write(random, _field(random, name, types)) + b", "
    if random.random() < 0.2:
        field = field.replace(b'"id"', b'"\\u0069d"')
    return b"{" + field + item[1:]


def _deepen(random: random.Random, item: bytes, _types: Sequence[str]) -> bytes:
    levels = random.choice((1, 50, 98, 101, 1000))
    return item[:-1] + b', "deep": ' + b"[" * levels + b"]" * levels + b"}"


def _swell(random: random.Random, item: bytes, _types: Sequence[str]) -> bytes:
    """Occasionally make it larger than is allowed."""
    return item[:-1] + b', "x": "' + b"x" * random.choice((10, 10, 10, 10, 10, 10, 10, 70_000)) + b'"}'


_MUTATIONS = (
    _flip,
    _flip,
    _cut,
    _insert,
    _insert,
    _repeat,
    _end_early,
    _splice,
    _add_field,
    _add_field,
    _deepen,
    _swell,
)
