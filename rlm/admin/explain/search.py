"""Searches beyond the ledger: items on the audit list and in staging, dead letters."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from rlm.admin.auditlist import fault_of
from rlm.admin.explain.look import Letter, Queued
from rlm.admin.letters import DeadLetter
from rlm.core.event import BadItemError, decode_item, event_id
from rlm.ledger.reading.backlog import MOST_ITEMS, item_pages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.ledger import Store

#: The id of an item in what is no JSON: a text or a number.
_ID = re.compile(rb'"id"\s*:\s*("(?:[^"\\]|\\.)*+"|-?\d[\d.]*+)')


@dataclass(frozen=True, slots=True)
class Searched:
    """What was found: the place of its item by event id, and the number of items that were not read.

    `moving`: a drain moved items meanwhile, so that some were not read anywhere.
    """

    queued: dict[str, Queued]
    unread: int = 0
    moving: bool = False


def search_items(store: Store, asked: str) -> Searched:
    """Look for an event or an item among the `MOST_ITEMS` oldest items that wait; the oldest such item counts.

    Raises:
        StoreError: Redis did not answer.
    """
    staged, listed = store.intake.lengths()
    read, number = 0, staged + listed
    for page in item_pages(store):
        for raw in page:
            read += 1
            found = {
                event: Queued(read, max(read, number), read <= staged, fault)
                for event, fault in _events(store, raw, asked)
            }
            if found:
                return Searched(found)
    return Searched({}, max(0, number - read) if read >= MOST_ITEMS else 0, moving=read < min(number, MOST_ITEMS))


def _events(store: Store, raw: bytes, asked: str) -> Iterator[tuple[str, str]]:
    """Yield the events of an item that were asked for, each with the reason if it will be a dead letter."""
    item_id, _, name = asked.rpartition(":")
    if b"\\" not in raw and not any(one and one.encode() in raw for one in (asked, item_id)):
        return  # true of nearly all, and decoding would cost ten times as much
    try:
        item = decode_item(raw, store.settings.queue.max_item_bytes)
    except BadItemError as error:
        if item_id_of(raw) in {asked, item_id or asked}:
            yield asked, f"{error.reason}: {error}"
        return
    for event in item.events:
        if item.id == asked or (item.id == item_id and event.type == name):
            known = event.type in store.settings.types
            yield event_id(item.id, event.type), "" if known else fault_of(raw, store.settings)


class _Identified(msgspec.Struct):
    id: object = None


def item_id_of(raw: bytes) -> str:
    """Return the id of an invalid item as text; empty if it has none.

    In what is no JSON, or only the beginning of an item, the first id counts.
    """
    try:
        found = msgspec.json.decode(raw, type=_Identified).id
    except (ValueError, RecursionError):
        first = _ID.search(raw)
        try:
            found = msgspec.json.decode(first[1]) if first else None
        except ValueError:
            return ""
    return str(found) if isinstance(found, str | int | float) and not isinstance(found, bool) else ""


def search_letters(store: Store, asked: str) -> dict[str, Letter]:
    """Look for dead letters of an event or an item, the newest of each event, among the `MOST_ITEMS` newest letters.

    A letter without an event goes by the id of its item.

    Raises:
        StoreError: Redis did not answer.
    """
    found: dict[str, Letter] = {}
    needle = msgspec.json.encode(asked)[1:-1]
    for raw in islice(store.letters.all(), MOST_ITEMS):
        if needle not in raw and b"\\" not in raw and b'"base64"' not in raw:
            continue
        letter = msgspec.json.decode(raw, type=DeadLetter)
        of = item_id_of(letter.item_bytes) if letter.event_id is None else letter.event_id
        if (of == asked or of.rpartition(":")[0] == asked) and of not in found:
            found[of] = Letter(letter.id, letter.reason, str(letter.detail), str(letter.failed_at))
    return found
