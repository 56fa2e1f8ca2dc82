"""publish_expected: the expected calls are replaced as a whole, only by the conductor."""

from __future__ import annotations

import pytest

from rlm.core.errors import FencedError
from rlm.core.expected import Expected
from tests.store import looks, steps
from tests.values import replace

USUAL = {(steps.TYPE, steps.ENDPOINT): Expected(2.0, 2.5), (steps.OTHER_TYPE, steps.ENDPOINT): Expected(0.125, 1 / 3)}


def test_nothing_is_published_at_first(store):
    """Workers go by their file."""
    assert store.measures.published() == {}


def test_what_is_published_is_told_to_the_microsecond(store, token):
    """By type and endpoint; the error rate concerns the conductor alone."""
    store.measures.publish(token, {pair: replace(one, error_rate=0.25) for pair, one in USUAL.items()})

    published = store.measures.published()
    assert published.keys() == USUAL.keys()
    for pair, told in published.items():
        assert told.seconds == pytest.approx(USUAL[pair].seconds, abs=1e-6)
        assert told.needed_seconds == pytest.approx(USUAL[pair].needed_seconds, abs=1e-6)
        assert told.error_rate == 0.0


def test_publishing_replaces_what_was_told_before(store, token):
    """An endpoint that is not named any more is expected to be as its file says."""
    store.measures.publish(token, USUAL)

    changed = {(steps.TYPE, steps.OVERFLOW): Expected(1.0, 1.5)}
    store.measures.publish(token, changed)
    assert store.measures.published() == changed

    store.measures.publish(token, {})
    assert store.measures.published() == {}


def test_publishing_again_changes_nothing(store, token):
    """It may be repeated."""
    store.measures.publish(token, USUAL)

    with looks.nothing_changes(store):
        store.measures.publish(token, USUAL)


def test_a_deposed_conductor_publishes_nothing(store, token):
    """Under a token that is not the lease's nothing is written."""
    store.measures.publish(token, USUAL)
    steps.take_over(store)

    with looks.nothing_changes(store), pytest.raises(FencedError, match="publish_expected"):
        store.measures.publish(token, {})
