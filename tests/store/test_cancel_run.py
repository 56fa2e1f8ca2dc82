"""cancel_run: anybody may ask the conductor to end the open run now."""

from __future__ import annotations

from tests.store import looks, steps


def test_a_finishing_run_ends_as_it_would_have(store, token):
    """It is not marked."""
    run = steps.open_run(store, token)
    steps.finish(store, token, run)

    with looks.nothing_changes(store):
        assert not store.runs.cancel(run.id)
