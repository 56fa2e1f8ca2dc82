"""Retry or drop dead letters: those named, or those that match a filter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice

from rlm.admin.letters import DeadLetter, LetterFilter, find_letters, is_refused, is_unsendable
from rlm.core.documents import LetterOutcome, LettersDealt
from rlm.core.item import BadItemError
from rlm.ledger.letters import Removal, is_letter
from rlm.ledger.store import Store

#: Letters dealt with at a time, for which Redis is held up by milliseconds.
_PAGE = 100


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result for one letter. `refused` is why nothing was done, else empty; `kept`: the letter is still there.

    A `left` letter was not tried, because it could not succeed. `as_item`: the letter had no event, so its retry put
    its item back on the audit list.
    """

    id: str
    refused: str = ""
    kept: bool = False
    left: bool = False
    as_item: bool = False


class Deal(StrEnum):
    """What is done to letters; documents use the value as the key of the letters it was done to."""

    RETRY = "retried"
    DROP = "dropped"


@dataclass(frozen=True, slots=True)
class Dealing:
    """An order: what to do to which letters, by id or by filter."""

    deal: Deal
    ids: Sequence[str] = ()
    chosen: LetterFilter = field(default_factory=LetterFilter)

    def count(self, store: Store) -> tuple[int, int, int]:
        """Return the number of letters it applies to, and of those a retry would skip and refuse."""
        total = left = refused = 0
        named = list(find_letters(store, self.ids).values()) if self.ids else None
        for raw in self.chosen.find(store) if named is None else named:
            total += 1
            if self.deal is Deal.RETRY and is_unsendable(store, letter := DeadLetter.read(raw)):
                is_left = named is None and bool(letter.hopeless(store.settings.queue.max_item_bytes))
                left += is_left
                refused += not is_left and is_refused(store, letter)
        return total, left, refused

    def carry_out(self, store: Store, most: int) -> list[Outcome]:
        """Apply the order to the first `most` named letters, or the oldest matching ones; to none if an id is unknown.

        A letter that is not named is skipped if its item can only become a dead letter again.
        """
        if not self.ids:
            return list(self._oldest(store, most))
        named = dict(islice(find_letters(store, self.ids).items(), most))
        letters, starts = [*named.values()], range(0, len(named), _PAGE)
        return [outcome for start in starts for outcome in self._apply(store, letters[start : start + _PAGE])]

    def _oldest(self, store: Store, most: int) -> Iterator[Outcome]:
        """Apply it to the `most` oldest matching letters, oldest first, a page at a time; not to new letters."""
        older = 0
        while most > 0 and (page := store.letters.oldest(older, _PAGE)):
            matching = [raw for raw in page if is_letter(raw) and self.chosen.fits(raw)][:most]
            outcomes = self._apply(store, matching)
            most -= len(matching)
            older += len(page) - sum(not each.kept for each in outcomes)
            yield from outcomes

    def _apply(self, store: Store, page: Sequence[bytes]) -> list[Outcome]:
        """Apply it to letters of one page; to a hopeless one only if it is named."""
        letters = [DeadLetter.read(raw) for raw in page]
        if self.deal is Deal.DROP:
            gone = "it is no longer there; somebody else has removed it"
            dropped = zip(letters, store.letters.drop(page), strict=True)
            return [Outcome(letter.id, "" if done else gone) for letter, done in dropped]
        largest = store.settings.queue.max_item_bytes
        hopeless = ["" if self.ids else letter.hopeless(largest) for letter in letters]
        tried = [raw for raw, why in zip(page, hopeless, strict=True) if not why]
        results = iter(store.letters.retry(tried, {kind.name: kind.priority for kind in store.settings.event_types}))
        return [
            Outcome(letter.id, why, kept=True, left=True) if why else _retried(letter, next(results))
            for letter, why in zip(letters, hopeless, strict=True)
        ]

    def foretold(self, total: int, left: int, refused: int) -> LettersDealt:
        """Return the document of `--dry-run` for the result of `count`."""
        if self.deal is Deal.DROP:
            return LettersDealt(dropped=(), would_be_dropped=total)
        would_be = total - left - refused
        return LettersDealt(
            retried=(), left=(), would_be_retried=would_be, would_be_left=left, would_be_refused=refused
        )

    def done(self, outcomes: Sequence[Outcome], more: int = 0) -> LettersDealt:
        """Return the document for the result of `carry_out`; `more` letters match and were not handled."""
        ids = tuple(outcome.id for outcome in outcomes if not outcome.refused)
        refused, left = (
            tuple(
                LetterOutcome(id=each.id, reason=each.refused) for each in outcomes if each.refused and each.left is so
            )
            for so in (False, True)
        )
        if self.deal is Deal.DROP:
            return LettersDealt(dropped=ids, refused=refused, more=more)
        return LettersDealt(retried=ids, refused=refused, left=left, more=more)


def _retried(letter: DeadLetter, result: Removal | BadItemError) -> Outcome:
    """Return the outcome of a retry; a letter without an event put its item back on the audit list."""
    if result is Removal.DONE:
        return Outcome(letter.id, as_item=not letter.event_types)
    if result is Removal.GONE:
        return Outcome(letter.id, "it is no longer there; somebody else has retried or dropped it")
    drop = f"`rlm failed drop {letter.id}`"
    under_way = f"its event is under way again; {drop} removes the old letter alone"
    why = under_way if result is Removal.UNDER_WAY else f"{result}; correct the configuration, or {drop}"
    return Outcome(letter.id, why, kept=True)
