"""The ways in which a worker may lose a claim while it still believes that it has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.ledger.claims import Completion
from tests.store import steps

if TYPE_CHECKING:
    from collections.abc import Callable

    from rlm.core.run import Run
    from rlm.ledger import Store
    from rlm.ledger.claims import Claim


def taken_back(store: Store, token: int, run: Run, claim: Claim) -> None:
    """Take the event back: the worker counts as dead."""
    assert store.recovery.orphan_worker(claim.worker_id) == 1


def released_again(store: Store, token: int, run: Run, claim: Claim) -> None:
    """Release its event again, unclaimed."""
    taken_back(store, token, run, claim)
    steps.release(store, token, run)


def claimed_by_another(store: Store, token: int, run: Run, claim: Claim) -> None:
    """Let another worker claim its event."""
    taken_back(store, token, run, claim)
    steps.claim_next(store, token, run, "another")


def claimed_anew(store: Store, token: int, run: Run, claim: Claim) -> None:
    """Let the same worker claim the event again, in another lane."""
    taken_back(store, token, run, claim)
    steps.claim_next(store, token, run, claim.worker_id)


def completed(store: Store, token: int, run: Run, claim: Claim) -> None:
    """Settle the event, as after a lost reply."""
    assert store.turns.complete(Completion(claim, steps.ENDPOINT, 0.1))


def completed_by_another(store: Store, token: int, run: Run, claim: Claim) -> None:
    """Let another worker complete it."""
    taken_back(store, token, run, claim)
    assert store.turns.complete(Completion(steps.claim_next(store, token, run, "another"), steps.ENDPOINT, 0.1))


def left_over(store: Store, token: int, run: Run, claim: Claim) -> None:
    """Let the finishing run take it back."""
    steps.finish(store, token, run)
    assert store.recovery.return_unsettled(run.id, [claim.type])


def run_closed(store: Store, token: int, run: Run, claim: Claim) -> None:
    """Close the run and its books."""
    left_over(store, token, run, claim)
    assert store.runs.close(run.id, {}, [claim.type], wanted=0) == 1


def claimed_in_the_next_run(store: Store, token: int, run: Run, claim: Claim) -> None:
    """Let the same worker claim it in the next run."""
    run_closed(store, token, run, claim)
    steps.claim_next(store, token, steps.start_run(store, token), claim.worker_id)


ALL: dict[str, Callable[[Store, int, Run, Claim], None]] = {
    way.__name__: way
    for way in (
        taken_back,
        released_again,
        claimed_by_another,
        claimed_anew,
        completed,
        completed_by_another,
        left_over,
        run_closed,
        claimed_in_the_next_run,
    )
}
