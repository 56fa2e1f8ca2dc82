"""Folded events: those of a deep backlog, each a string in place of a hash until it is first claimed.

Redis writes a chunk of strings with one command, in a third of the time that their hashes take it, and keeps them in
less memory. An event that was claimed once is a hash for ever: `unfold_event` of rlm/ledger/lua/include.lua makes it.
docs/adr/0019-folded-events.md has the figures, and why all others are hashes from the beginning.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import redis

from rlm.core.errors import StoreGarbledError
from rlm.ledger.connect import translated
from rlm.ledger.scripts import Command, batch

#: When it was taken, seconds since 1970, how its item is kept, and the number of bytes of its wallet's name, with which
#: the rest begins.
_HEAD = re.compile(rb"(\d+\.\d{3})([ :,])(\d{1,9}) ")
#: How an item is kept: whole, or without its beginning, which most have, with blanks or without: `_beginning`.
_WHOLE, _WITH_BLANKS, _DENSE = b" :,"


def fold(event_id: str, taken_at: bytes, wallet_name: str, item: bytes) -> bytes:
    """Return an event as a string. Its id is in its key, its score in its place alone.

    `taken_at` is in seconds since 1970, with three decimals; `item` may be packed.
    """
    how = _WITH_BLANKS if item.startswith(b'{"id": ') else _DENSE
    begins, wallet = _beginning(how, event_id, wallet_name), wallet_name.encode()
    if item.startswith(begins):
        return b"%b%c%d %b%b" % (taken_at, how, len(wallet), wallet, item[len(begins) :])
    return b"%b%c%d %b%b" % (taken_at, _WHOLE, len(wallet), wallet, item)


def unfold(event_id: str, raw: bytes) -> dict[bytes, bytes] | None:
    """Return the fields of a folded event as its hash would have them, but for `score`; None if `raw` is none."""
    head = _HEAD.match(raw)
    if head is None or (ends := head.end() + int(head[3])) >= len(raw):
        return None
    wallet, how = raw[head.end() : ends], head[2][0]
    begins = b"" if how == _WHOLE else _beginning(how, event_id, wallet.decode(errors="surrogateescape"))
    return {b"taken_at": head[1], b"wallet": wallet, b"item": begins + raw[ends:]}


def _beginning(how: int, event_id: str, wallet: str) -> bytes:
    """Return the part of an item that follows from its event's id and its wallet."""
    item_id = event_id.rpartition(":")[0]
    if how == _WITH_BLANKS:
        begins = f'{{"id": "{item_id}", "wallet_name": "{wallet}", "events": ["'
    else:
        begins = f'{{"id":"{item_id}","wallet_name":"{wallet}","events":["'
    return begins.encode(errors="surrogateescape")


def is_folded(fields: Mapping[bytes, bytes]) -> bool:
    """Return whether these are all fields of a folded event, which alone has no score."""
    return b"item" in fields and b"score" not in fields


def read_fields(client: redis.Redis, keys: Sequence[str], *fields: str) -> list[list[bytes | None]]:
    """Return some fields of each event, folded or not, in one round trip, two if some are folded.

    Raises:
        StoreGarbledError: a key is not an event's.
    """
    with translated(client):
        found = _run(client, [("HMGET", key, *fields) for key in keys])
        folded = [place for place, one in enumerate(found) if isinstance(one, redis.ResponseError)]
        strings = _run(client, [("GET", keys[place]) for place in folded])
        for place, raw in zip(folded, strings, strict=True):
            if isinstance(raw, redis.ResponseError):  # it was claimed meanwhile, and is a hash, or it is no event
                found[place] = client.hmget(keys[place], list(fields))
            elif (event := unfold(_id_in(keys[place]), raw or b"")) is not None:
                found[place] = [event.get(one.encode()) for one in fields]
            elif raw is None:  # it was settled meanwhile, and is not remembered
                found[place] = [None] * len(fields)
            else:
                raise found[place]
    return found


def read_at_once(client: redis.Redis, key: str, commands: Sequence[Command]) -> tuple[Mapping[bytes, bytes], list[Any]]:
    """Return all fields of an event, folded or not, and the replies to `commands`, of one instant.

    Raises:
        StoreGarbledError: the key is not an event's.
    """
    for command in ("HGETALL", "GET", "HGETALL"):  # it may be claimed between the first two
        try:
            kept, *replies = batch(client, [(command, key), *commands], transaction=True)
        except StoreGarbledError as error:
            wrong = error
            continue
        fields = kept if command == "HGETALL" else {} if kept is None else unfold(_id_in(key), kept)
        if fields is not None:
            return fields, replies
        break
    raise wrong


def are_known(client: redis.Redis, events: Sequence[tuple[str, str, str]]) -> list[bool]:
    """Return whether the ledger knows each event: its key, the zset of its type's pending events, and its id.

    As in `take_chunk`, one that is not a hash and has no place there is nobody's.
    """
    with translated(client):
        found = _run(client, [("HLEN", key) for key, _, _ in events])
        strings = [place for place, one in enumerate(found) if isinstance(one, redis.ResponseError)]
        scores = _run(client, [("ZSCORE", *events[place][1:]) for place in strings])
        for place, score in zip(strings, scores, strict=True):
            found[place] = score is not None
    return list(map(bool, found))


def _id_in(key: str) -> str:
    """Return the event id in an event's key; a prefix has no colon."""
    return key.split(":", 2)[2]


def _run(client: redis.Redis, commands: Sequence[Command]) -> list[Any]:
    if not commands:
        return []
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
    found = pipeline.execute(raise_on_error=False)
    for one in found:
        if isinstance(one, redis.ResponseError) and not str(one).startswith("WRONGTYPE"):
            raise one
    return found
