"""Dead letters: find, filter and group them; retry or drop those named, or those that match a filter."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from rlm.admin.errors import NoSuchRunError
from rlm.admin.text import Duration, Text, Texts, seconds_in
from rlm.core.clock import isoformat, system_clock
from rlm.core.documents import LetterGroup, LetterOutcome, LettersDealt
from rlm.core.item import NOT_EMBEDDABLE, BadItemError, Item, Reason, decode_item, event_id, type_of
from rlm.core.text import is_name
from rlm.ledger.letters import Order
from rlm.ledger.store import Store

#: Letters dealt with at a time, for which Redis is held up by milliseconds.
_PAGE = 100
_GONE = "it is no longer there; somebody else has retried or dropped it"


class DeadLetter(msgspec.Struct):
    """A dead letter, without what RLM does not use.

    `event_id` is None if its item as a whole is the letter; `aside` is the list to which its item was moved because it
    was too large.
    """

    id: str
    reason: Reason
    event_id: str | None
    item: msgspec.Raw
    detail: object = ""
    failed_at: object = ""
    types: list[str] = []
    aside: object = None
    endpoint: object = None

    @classmethod
    def read(cls, raw: bytes) -> DeadLetter:
        """Decode a letter of the list."""
        return msgspec.json.decode(raw, type=cls)

    @property
    def event_types(self) -> list[str]:
        """The types of its events; empty if its item as a whole is the letter."""
        return self.types or ([type_of(self.event_id)] if self.event_id else [])

    @property
    def subject(self) -> str:
        """The id of its event, else the id in its item, as far as that has any."""
        return self.event_id or str(self.item_fields.get("id") or "")

    @property
    def item_bytes(self) -> bytes:
        """Its item as it was pushed."""
        raw = bytes(self.item)
        return base64.b64decode(msgspec.json.decode(raw)["base64"]) if self.reason in NOT_EMBEDDABLE else raw

    def own_item(self) -> Item:
        """Return the item of a letter of events.

        Raises:
            BadItemError: it is none, or the events are not of the item: an unknown type has a colon and ends like a
                known type, or another program wrote the letter; its event id must not get into keys and headers.
        """
        item, types = decode_item(self.item_bytes), self.event_types
        is_own = self.event_id is None or (is_name(types[0]) and self.event_id == event_id(item.id, types[0]))
        if not (is_own and set(types) <= set(item.types)):
            raise BadItemError(Reason.BAD_VALUE, "its events are not of its item")
        return item

    @property
    def type(self) -> str | None:
        """The type of its event; None if it has none, or several."""
        return self.event_types[0] if len(self.event_types) == 1 else None

    @property
    def item_fields(self) -> dict[str, Any]:
        """The fields of its item; empty if it is not a JSON object."""
        try:
            fields = msgspec.json.decode(self.item_bytes)
        except (ValueError, RecursionError):
            return {}
        return fields if isinstance(fields, dict) else {}


def letters_of(store: Store) -> Iterator[bytes]:
    """Yield the letters in Redis, newest first."""
    return filter(_is_letter, store.letters.all())


def _is_letter(raw: bytes) -> bool:
    """Return whether an entry of the list is a letter that RLM wrote, or a similar one."""
    try:
        msgspec.json.decode(raw)  # all of it, as its readers do
        DeadLetter.read(raw).item_bytes  # noqa: B018  # it may raise
    except (ValueError, TypeError, KeyError, RecursionError):  # other programs may push here
        return False
    return True


class LetterFilter(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Which letters: those that match each criterion given; of several values, one is enough.

    `since` is a duration. `search` is looked for in the ids of event and item, the wallet name and the detail, ignoring
    case.
    """

    type: Texts = []
    reason: Annotated[list[Reason], Meta(max_length=100)] = []
    endpoint: Texts = []
    since: Duration | None = None
    search: Text = ""

    def __bool__(self) -> bool:
        """Return whether there is any criterion; without one all letters match."""
        return any((self.type, self.reason, self.endpoint, self.since is not None, self.search))

    def find(self, store: Store) -> Iterator[bytes]:
        """Yield the matching letters, newest first."""
        return filter(self.matcher(), letters_of(store))

    def matcher(self) -> Callable[[bytes], bool]:
        """Return what tells whether a letter matches; raise a BadQuestionError if `since` is no duration."""
        oldest = "" if self.since is None else isoformat(max(0.0, system_clock.now() - seconds_in(self.since)))

        def fits(raw: bytes) -> bool:
            if not self:
                return True
            letter = DeadLetter.read(raw)
            return (
                (not self.type or not set(letter.event_types).isdisjoint(self.type))
                and (not self.reason or letter.reason in self.reason)
                and (not self.endpoint or letter.endpoint in self.endpoint)
                and str(letter.failed_at) >= oldest
                and (not self.search or self.search.casefold() in _searched(letter).casefold())
            )

        return fits


def _searched(letter: DeadLetter) -> str:
    fields = letter.item_fields
    item = [fields.get("id"), fields.get("wallet_name")] if fields else [letter.item_bytes.decode(errors="replace")]
    return "\n".join(str(part) for part in (letter.id, letter.event_id, letter.detail, *item) if part is not None)


def grouped(letters: Iterable[bytes]) -> list[LetterGroup]:
    """Return the number of letters with the same reason, endpoint and type, most first, and when the newest came."""
    numbers, newest = Counter[tuple[str, str | None, str | None]](), dict[tuple[str, str | None, str | None], str]()
    for letter in map(DeadLetter.read, letters):  # newest first
        group = letter.reason, str(letter.endpoint) if letter.endpoint else None, letter.type
        numbers[group] += 1
        newest.setdefault(group, str(letter.failed_at))
    return [LetterGroup(number, *group, newest[group]) for group, number in numbers.most_common()]


def find_letters(store: Store, ids: Sequence[str]) -> dict[str, bytes]:
    """Return the letters with these ids, in the given order; raise a NoSuchRunError for an unknown id."""
    letters = {handle: raw for raw in letters_of(store) if (handle := DeadLetter.read(raw).id) in ids}
    if unknown := [repr(handle) for handle in dict.fromkeys(ids) if handle not in letters]:
        words = f"No dead letter {', '.join(unknown)}; nothing was changed. `rlm failed list` shows those there are."
        raise NoSuchRunError(words)
    return {handle: letters[handle] for handle in ids}


class Deal(StrEnum):
    """What is done to letters; documents use the value as the key of the letters it was done to."""

    RETRY = "retried"
    DROP = "dropped"


def deal_with(store: Store, deal: Deal, chosen: Sequence[str] | LetterFilter, most: int) -> LettersDealt:
    """Retry or drop the named letters, or the `most` oldest that match a filter; none if an id is unknown.

    They are dealt with a page at a time, the oldest first; new letters come behind them.
    """
    if isinstance(chosen, LetterFilter):
        fits = chosen.matcher()
    else:
        named = find_letters(store, chosen)
        fits = set(named.values()).__contains__
    outcomes, older = list[LetterOutcome](), 0
    while len(outcomes) < most and (page := store.letters.oldest(older, _PAGE)):
        matching = [raw for raw in page if _is_letter(raw) and fits(raw)][: most - len(outcomes)]
        dealt = _deal_with_page(store, deal, matching)
        older += len(page) - sum(each.reason in {"", _GONE} for each in dealt)
        outcomes += dealt
    done = tuple(each.id for each in outcomes if not each.reason)
    refused = tuple(each for each in outcomes if each.reason)
    return msgspec.structs.replace(LettersDealt(refused=refused), **{deal: done})


def _deal_with_page(store: Store, deal: Deal, page: Sequence[bytes]) -> list[LetterOutcome]:
    priorities = {kind.name: kind.priority for kind in store.settings.event_types}
    outcomes, handles, orders = list[LetterOutcome](), list[str](), list[Order]()
    for raw in page:
        handle = DeadLetter.read(raw).id
        try:
            orders.append(order_of(raw, deal, priorities))
            handles.append(handle)
        except BadItemError as error:
            reason = f"{error}; correct the configuration, or `rlm failed drop {handle}`"
            outcomes.append(LetterOutcome(id=handle, reason=reason))
    for handle, done in zip(handles, store.letters.remove(orders), strict=True):
        under_way = f"its event is under way again; `rlm failed drop {handle}` removes the old letter alone"
        outcomes.append(LetterOutcome(id=handle, reason={1: "", 0: _GONE}.get(done, under_way)))
    return outcomes


def order_of(raw: bytes, deal: Deal, priorities: Mapping[str, int]) -> Order:
    """Return the order to retry or drop a letter; raise a BadItemError if it cannot be retried.

    A retry makes its events ready, with no attempts or runs, or pushes an item without event back. `priorities` has the
    priority of each configured type; a letter of several events stays for those of other types. A drop forgets its
    event, if that belongs to its item.
    """
    letter = DeadLetter.read(raw)
    if deal is Deal.DROP:
        with suppress(BadItemError):
            letter.own_item()
            return Order(raw, dropped=letter.event_id or "")
        return Order(raw)
    if letter.aside is not None:
        remedy = f"its item is in {letter.aside}, to be pushed again from there with a higher queue.max_item_bytes"
        raise BadItemError(letter.reason, remedy)
    order, types = Order(raw, item=letter.item_bytes), letter.event_types
    if not types:
        return order
    item = letter.own_item()
    for name in filter(priorities.__contains__, types):
        order.retried.append((event_id(item.id, name), item.wallet_name, item.offset(priorities[name])))
    if not order.retried:
        raise BadItemError.unknown_types(types)
    if unknown := [name for name in types if name not in priorities]:
        rest = {"detail": str(BadItemError.unknown_types(unknown)), "types": unknown}
        order.rest = msgspec.json.encode({**msgspec.json.decode(raw, type=dict[str, msgspec.Raw]), **rest})
    return order
