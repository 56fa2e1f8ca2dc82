"""note_run: the conductor writes facts of the open run, and does not move it."""

from __future__ import annotations

import pytest

from rlm.core.errors import FencedError
from tests.store import looks, steps
from tests.values import replace


def test_fields_are_written_and_the_state_stays(store, token, running):
    """Whatever state that is: a run that is ending by now does not go back."""
    run = running()
    assert store.runs.note(token, run.id, workers_peak=4)
    steps.finish(store, token, run)

    assert store.runs.note(token, run.id, failure="größer")

    found = store.runs.current()
    assert found == replace(run, state=found.state, workers_peak=4, failure="größer")
    assert found.state == "finishing"


def test_a_run_that_is_not_open_gets_no_note(store, token):
    """Nor does a hash of it come back."""
    run = steps.open_run(store, token)
    steps.finish(store, token, run)
    store.runs.close(run.id, {}, wanted=0)

    with looks.nothing_changes(store):
        assert not store.runs.note(token, run.id, workers_peak=4)


def test_a_stale_token_writes_nothing(store, token):
    """A conductor whose lease another one took is fenced, open run or not."""
    run = steps.open_run(store, token)
    steps.take_over(store)

    for run_id in (run.id, "another"):
        with looks.nothing_changes(store), pytest.raises(FencedError, match="write_run"):
            store.runs.note(token, run_id, workers_peak=4)
