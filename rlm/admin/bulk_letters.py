"""Dead letters retried or dropped: those named or those that match, counted first, each with its outcome."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from rlm.admin.letters import (
    LetterFilter,
    count_unsendable,
    deal_with_oldest,
    drop_letter,
    find_letters,
    retry_letter,
    retry_unless_hopeless,
)
from rlm.core.errors import NoSuchLetterError
from rlm.ledger.archive import Archive, ArchiveKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rlm.admin.letters import Outcome
    from rlm.ledger import Store


class Deal(StrEnum):
    """What is done to letters; the value is how documents name those to which it was done."""

    RETRY = "retried"
    DROP = "dropped"


@dataclass(frozen=True, slots=True)
class Dealing:
    """An order: which letters, by their ids or by a filter, and what is done to them."""

    deal: Deal
    ids: Sequence[str] = ()
    chosen: LetterFilter = field(default_factory=LetterFilter)

    def count(self, store: Store) -> tuple[int, int]:
        """Return how many letters it is about, and how many of these a retry would leave as they are."""
        if self.ids:
            return len(found_letters(store, self.ids)), 0
        total, left = sum(map(self.chosen.fits, store.letters.all())), 0
        if self.deal is Deal.RETRY:
            left = count_unsendable(store, filter(self.chosen.fits, store.letters.all()))
        return total, left

    def carry_out(self, store: Store, most: int) -> list[Outcome]:
        """Deal with the first `most` letters named, or with the oldest that match; none if an id is unknown."""
        if self.ids:
            deal = retry_letter if self.deal is Deal.RETRY else drop_letter
            return [deal(store, raw) for raw in list(found_letters(store, self.ids).values())[:most]]
        deal = retry_unless_hopeless if self.deal is Deal.RETRY else drop_letter
        return list(deal_with_oldest(store, most, deal, self.chosen.fits))

    def foretold(self, total: int, left: int) -> dict[str, Any]:
        """Return the document of `--dry-run` for what `count` returned."""
        of_retry = {"left": [], "would_be_left": left} if self.deal is Deal.RETRY else {}
        return {self.deal: [], "refused": [], f"would_be_{self.deal}": total - left, **of_retry}

    def done(self, outcomes: Sequence[Outcome], more: int = 0) -> dict[str, Any]:
        """Return the document of what `carry_out` returned; `more` letters match and were not dealt with."""
        told = {"refused": [one for one in outcomes if one.refused and not one.left]}
        if self.deal is Deal.RETRY:
            told["left"] = [one for one in outcomes if one.left]
        entries = {name: [{"id": one.id, "reason": one.refused} for one in each] for name, each in told.items()}
        return {self.deal: [one.id for one in outcomes if not one.refused], **entries, "more": more}


def found_letters(store: Store, ids: Sequence[str]) -> dict[str, bytes]:
    """Return the letters with these ids, in the order given.

    Raises:
        NoSuchLetterError: an id is unknown.
    """
    found = find_letters(store, ids)
    if unknown := [repr(handle) for handle in dict.fromkeys(ids) if handle not in found]:
        older = Archive(store.settings.archive_dir).hint(ArchiveKind.FAILED)
        words = f"No dead letter {', '.join(unknown)}; nothing was changed. `rlm failed list` shows those there are."
        raise NoSuchLetterError(words + older)
    return {handle: found[handle] for handle in ids}
