"""The audit item and its events: decoding and validation of items, and dead letters for invalid ones."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Sequence
from enum import StrEnum
from itertools import accumulate
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from rlm.core.clock import isoformat
from rlm.core.text import named

#: How deep an item may nest arrays and objects, and how many distinct types it may hold.
MAX_DEPTH = MAX_TYPES = 100
#: The highest `priority` of an item, from 0; higher priorities go first.
MAX_PRIORITY = 100
#: One step of priority in an event's order score. A step has room for 2^42 arrivals, a double for 100 steps.
PRIORITY_STEP = 2**42
#: The strings of a JSON text. The last may have no end, so that noise takes no longer.
_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?')


class Reason(StrEnum):
    """Why an item or event became a dead letter."""

    NOT_JSON = "not_json"
    NOT_UTF8 = "not_utf8"
    NOT_OBJECT = "not_object"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    BAD_VALUE = "bad_value"
    TOO_DEEP = "too_deep"
    TOO_LARGE = "too_large"
    UNKNOWN_TYPE = "unknown_type"
    REJECTED = "rejected"
    ATTEMPTS_SPENT = "attempts_spent"
    POISON = "poison"


#: Items with one of these faults cannot be embedded in JSON unchanged.
NOT_EMBEDDABLE = frozenset({Reason.NOT_JSON, Reason.NOT_UTF8, Reason.TOO_DEEP})


class BadItemError(ValueError):
    """Raised when an item cannot be taken. `reason` is a code; the message is for people."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason

    @classmethod
    def unknown_types(cls, names: Sequence[str]) -> BadItemError:
        """Return the error of events whose types are not in the configuration."""
        what = "is not a configured type" if len(names) == 1 else "are not configured types"
        return cls(Reason.UNKNOWN_TYPE, f"{named([repr(name[:100]) for name in names], 5)} {what}")

    @classmethod
    def too_large(cls, size: int, most: int) -> BadItemError:
        """Return the error of an item that has `size` bytes when at most `most` are allowed."""
        return cls(Reason.TOO_LARGE, f"{size} bytes, at most {most} are accepted (queue.max_item_bytes)")


class Item(msgspec.Struct, frozen=True):
    """What RLM reads of one valid record of the audit list. Without a `priority` it has that of each type."""

    id: Annotated[str, Meta(pattern=r"\A[!-~]{1,200}\Z")]
    wallet_name: Annotated[str, Meta(min_length=1, max_length=500)]
    events: Annotated[list[str], Meta(min_length=1)]
    priority: Annotated[int, Meta(ge=0, le=MAX_PRIORITY)] | UnsetType = UNSET

    @property
    def types(self) -> tuple[str, ...]:
        """Its distinct event types."""
        return tuple(dict.fromkeys(self.events))

    def offset(self, own: int) -> int:
        """Return what its priority adds to the order score of an event whose type has the priority `own`.

        A higher priority adds less, so the event goes earlier.
        """
        return (MAX_PRIORITY - (own if self.priority is UNSET else self.priority)) * PRIORITY_STEP


def event_id(item_id: str, type_name: str) -> str:
    """Return the id of an item's event of type `type_name`. Type names have no colon, so `type_of` is the inverse."""
    return f"{item_id}:{type_name}"


def type_of(event: str) -> str:
    """Return the type in an event id."""
    return event.rpartition(":")[2]


class Counts(msgspec.Struct, frozen=True):
    """How many events of one type are in each place; `pending` are ready to be sent now."""

    pending: int = 0
    inflight: int = 0
    backing_off: int = 0
    spent: int = 0

    @property
    def unsettled(self) -> int:
        """The number of events that are not settled."""
        return self.pending + self.inflight + self.backing_off + self.spent

    @property
    def open(self) -> int:
        """The number of events that this run may still send."""
        return self.unsettled - self.spent


def decode_item(raw: bytes) -> Item:
    """Decode and validate an item that is not too large; raise a BadItemError for the first fault."""
    document = _decode_document(raw)
    if isinstance(priority := document.get("priority"), float) and priority.is_integer():
        document["priority"] = int(priority)
    try:
        item = msgspec.convert(document, Item)
    except msgspec.ValidationError as error:
        words = str(error)
        is_missing = "missing required" in words
        is_another = ", got `" in words and "`int`, got `float`" not in words  # 0.5 is a number
        reason = Reason.MISSING_FIELD if is_missing else Reason.WRONG_TYPE if is_another else Reason.BAD_VALUE
        raise BadItemError(reason, words) from None
    if (number := len(item.types)) > MAX_TYPES:
        raise BadItemError(Reason.BAD_VALUE, f"events holds {number} types, at most {MAX_TYPES} are accepted")
    return item


def _decode_document(raw: bytes) -> dict[str, Any]:
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:
        steps = (1 if each in b"[{" else -1 for each in re.findall(rb"[\[\]{}]", _STRINGS.sub(b"", raw)))
        if max(accumulate(steps, initial=0)) > MAX_DEPTH:
            raise BadItemError(Reason.TOO_DEEP, f"nested deeper than {MAX_DEPTH} levels")
    try:
        raw.decode()
        document = msgspec.json.decode(raw)
    except UnicodeDecodeError as error:
        raise BadItemError(Reason.NOT_UTF8, f"not UTF-8 at byte {error.start}") from error
    except msgspec.DecodeError as error:
        raise BadItemError(Reason.NOT_JSON, f"not JSON: {error}") from error
    if not isinstance(document, dict):
        raise BadItemError(Reason.NOT_OBJECT, "JSON, but no object")
    # Of a field that is there twice one is lost, with its colon, which an escaped one could hide.
    again = msgspec.json.encode(document)
    if (raw.count(b":") != again.count(b":") or b"\\u003" in raw) and (
        _STRINGS.sub(b"", raw).count(b":") != _STRINGS.sub(b"", again).count(b":")
    ):
        raise BadItemError(Reason.BAD_VALUE, "an object has a field twice")
    return document


def encode_letter(
    item: bytes,
    reason: Reason,
    detail: str,
    *,
    failed_at: float,
    run_id: str | None,
    event: str | None,
    **more: str | Sequence[str],
) -> bytes:
    """Return the dead letter of `item` as JSON; `failed_at` is in seconds since 1970.

    `more` may have the `types` of its item that made it one, the `endpoint`, and where the item is `aside`.
    If the item was damaged in the ledger so that it cannot be embedded, that becomes the reason, because otherwise
    nobody could read its letter. Of one that was moved `aside` unread, `item` is `null`.
    """
    try:
        _decode_document(item)
    except BadItemError as flaw:
        if flaw.reason in NOT_EMBEDDABLE and flaw.reason is not reason:
            reason, detail = flaw.reason, f"{detail}; its item is {flaw}"
    letter: dict[str, Any] = {
        "id": os.urandom(8).hex(),
        "reason": reason,
        "detail": detail,
        "failed_at": isoformat(failed_at),
        "run_id": run_id,
        "event_id": event if event and event.isascii() else None,  # valid event ids are ASCII
        **more,
    }
    is_embedded = reason not in NOT_EMBEDDABLE
    letter["item"] = msgspec.Raw(item) if is_embedded else {"base64": base64.b64encode(item).decode()}
    return msgspec.json.encode(letter)
