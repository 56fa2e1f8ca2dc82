"""What a text stands for: a run, an event, an item, a dead letter, or the name of a wallet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlm.admin.explain import events_of_wallet, explain
from rlm.admin.letters import DeadLetter, find_letters
from rlm.admin.report import runs_beginning
from rlm.core.errors import NoSuchRunError

if TYPE_CHECKING:
    from rlm.ledger import Store

#: Runs that are named, the newest of those whose id begins so.
MOST_RUNS = 20
#: Characters from which on a text may be the beginning of a run's id: a date.
_SHORTEST = len("20261125")


def search(store: Store, asked: str) -> dict[str, Any]:
    """Return what is found for `asked`, in this order; nothing is looked for once something is found.

    `runs` are ids that begin so, `events` the documents of `rlm explain`, `letter` the id of a dead letter, `wallet`
    what `rlm explain` prints for the name of a wallet. `why` says why nothing was found.
    """
    nothing: dict[str, Any] = {"asked": asked, "runs": [], "events": [], "letter": None, "wallet": None, "why": ""}
    if not asked:
        return {**nothing, "why": "Nothing was asked for."}
    if len(asked) >= _SHORTEST and (runs := runs_beginning(store, asked)):
        return {**nothing, "runs": runs[:MOST_RUNS]}
    try:
        return {**nothing, "events": explain(store, asked)}
    except NoSuchRunError as error:
        why = str(error)
    for raw in find_letters(store, [asked]).values():
        return {**nothing, "letter": DeadLetter.read(raw).id}
    wallet = events_of_wallet(store, asked)
    return {**nothing, "wallet": wallet} if wallet["found"] else {**nothing, "why": why}
