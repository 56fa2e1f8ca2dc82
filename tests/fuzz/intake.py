"""Whatever is pushed onto the audit list, each item is events or a letter after the drain: none lost or doubled."""

from __future__ import annotations

import base64
import json
import random
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias

import msgspec

from rlm.core.item import NOT_EMBEDDABLE, Reason
from rlm.ledger.store import Store
from tests.store import steps

#: Items to push and drain at a time.
BATCH = 5000
#: Seconds after which a drain of so many counts as hung; it normally takes one or two.
HANG_SECONDS = 120
#: Characters that JSON allows around a value, and its readers drop.
WHITESPACE = b" \t\r\n"

Maker: TypeAlias = "Callable[[random.Random, Sequence[str]], bytes]"


@dataclass
class Figures:
    """The results for the items so far."""

    items: int = 0
    taken: int = 0
    duplicates: int = 0
    rejected: int = 0
    unknown: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, other: Figures) -> None:
        """Add the figures of a batch."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


def fuzz(store: Store, make: Maker, number: int, seed: str, giant: int = 0) -> Figures:
    """Push `number` made items through the real drain and check the result of each, batch by batch.

    `store` is empty, and is empty again afterwards. A batch depends only on `seed` and its number. With `giant`,
    the first batch contains an item of that many bytes.
    """
    types = [one.name for one in store.settings.event_types]
    total = Figures()
    for batch in range(0, number, BATCH):
        source = random.Random(f"{seed} {batch}")
        items = [make(source, types) for _ in range(min(BATCH, number - batch))]
        if giant and not batch:
            items.insert(len(items) // 2, b"G" * giant)
        try:
            with _no_hang():
                total.add(_drain(store, items))
        except BaseException:
            print(f"in the batch at {batch} of seed {seed!r}", file=sys.stderr)
            raise
    return total


def _drain(store: Store, items: list[bytes]) -> Figures:
    """Drain `items` in their own run and check that the sum is right."""
    token = store.leases.contend(steps.CONDUCTOR, 600).token
    run = steps.open_run(store, token)
    for start in range(0, len(items), 500):
        steps.push(store, *items[start : start + 500])
    taken = steps.drain(store, token, run)

    letters = list(store.letters.all())
    tally = store.runs.tally()
    aside = store.client.lrange(store.keys.aside, 0, -1)
    assert min(map(len, aside), default=1 << 30) > store.settings.queue.max_item_bytes
    rejected, unknown = _sort(letters, aside)
    accepted = Counter(item.strip(WHITESPACE) for item in items)
    accepted.subtract(rejected)
    assert min(accepted.values(), default=0) >= 0, "a dead letter holds what was never pushed"
    expected = Counter(one for raw, count in (+accepted).items() for one in _events(raw) * count)
    configured = {one.name for one in store.settings.event_types}
    known = {one: count for one, count in expected.items() if one[1] in configured}

    assert {one for one in expected if one not in known} == unknown
    assert _ledger(store) == {f"{item}:{name}" for item, name in known}
    assert taken == len(known)
    assert tally.get("duplicates", 0) == sum(known.values()) - taken
    assert tally.get("invalid", 0) == len(letters)
    assert sum(store.intake.lengths()) == 0
    figures = Figures(len(items), taken, tally.get("duplicates", 0), rejected.total(), len(unknown))
    figures.reasons.update(json.loads(raw)["reason"] for raw in letters)
    _clear(store)
    return figures


def _sort(letters: Sequence[bytes], aside: Sequence[bytes]) -> tuple[Counter[bytes], set[tuple[str, str]]]:
    """Return the items that were rejected whole, and the events of an unknown type; each letter is one or the other.

    `aside` are the items that were moved aside unread, each of which has a letter.
    """
    rejected: Counter[bytes] = Counter(item.strip(WHITESPACE) for item in aside)
    unknown: set[tuple[str, str]] = set()
    unread = 0
    for raw in letters:
        letter = json.loads(raw, parse_constant=_no_constant)
        keys = {"id", "reason", "detail", "failed_at", "run_id", "event_id", "item"}
        assert set(letter) - {"types", "aside"} == keys, letter
        reason = Reason(letter["reason"])
        assert letter["detail"], letter
        if reason is Reason.UNKNOWN_TYPE:
            item_id, types = letter["item"]["id"], letter["types"]
            named = [name for name in types if re.fullmatch(r"[\w.-]{1,100}", name, re.ASCII)]
            assert letter["event_id"] == (f"{item_id}:{types[0]}" if len(types) == len(named) == 1 else None)
            unknown |= {(item_id, name) for name in types}
            continue
        assert letter["event_id"] is None
        if reason is Reason.TOO_LARGE:
            assert letter["item"] is None
            unread += 1
        else:
            rejected[_whole(raw, letter).strip(WHITESPACE)] += 1
    assert unread == len(aside)
    return rejected, unknown


def _whole(raw: bytes, letter: dict[str, Any]) -> bytes:
    """Return the item of a letter."""
    if letter["reason"] in NOT_EMBEDDABLE:
        return base64.b64decode(letter["item"]["base64"])
    return bytes(msgspec.json.decode(raw, type=dict[str, msgspec.Raw])["item"])


def _events(raw: bytes) -> list[tuple[str, str]]:
    """Read the events of an accepted item by another JSON reader than RLM's."""
    document = json.loads(raw, parse_constant=_no_constant, object_pairs_hook=_no_repetition)
    return [(document["id"], name) for name in dict.fromkeys(document["events"])]


def _no_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    assert len(fields) == len(pairs), pairs
    return fields


def _no_constant(text: str) -> None:
    raise AssertionError(f"{text} is no JSON")


def _ledger(store: Store) -> set[str]:
    found: list[bytes] = []
    for name in store.ledger.types():
        found += store.client.zrange(store.keys.ready(name), 0, -1)  # type: ignore[arg-type]  # bytes, it is sync
    return {one.decode() for one in found}


def _clear(store: Store) -> None:
    prefix = store.settings.redis.prefix
    keys = [store.keys.failed, *store.client.scan_iter(match=f"{prefix}:*", count=10_000)]
    for start in range(0, len(keys), 10_000):
        store.client.delete(*keys[start : start + 10_000])


class _no_hang:  # noqa: N801  # reads like a function
    """Raise if the block takes longer than `HANG_SECONDS`."""

    def __enter__(self) -> None:
        signal.signal(signal.SIGALRM, self.hangs)
        signal.alarm(HANG_SECONDS)

    def __exit__(self, *_: object) -> None:
        signal.alarm(0)

    def hangs(self, *_: object) -> None:
        raise AssertionError(f"the drain takes longer than {HANG_SECONDS} s")
