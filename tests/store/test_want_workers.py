"""want_workers: the conductor's wanted number, fenced."""

from __future__ import annotations

import pytest

from rlm.core.errors import FencedError


def test_the_wanted_number_is_the_last_one_published(store, token):
    """Nobody is wanted at first; then as many as the conductor said last."""
    assert store.processes.wanted() == 0

    store.processes.want(token, 7)
    store.processes.want(token, 3)

    assert store.processes.wanted() == 3


def test_a_deposed_conductor_wants_nothing(store, token):
    """A token that is not the lease's changes nothing."""
    store.processes.want(token, 7)

    with pytest.raises(FencedError):
        store.processes.want(token + 1, 0)

    assert store.processes.wanted() == 7
