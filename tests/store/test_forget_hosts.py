"""forget_hosts: no ways are kept for hosts that are gone."""

from __future__ import annotations

from rlm.ledger.ways import FAILING
from tests.store.ways import A, B, C, fail, shut
from tests.store.windows import make_endpoint

ONE, TWO = (make_endpoint(name=name) for name in ("one", "two"))


def test_the_ways_of_one_go_and_those_of_others_stay(store):
    """Whatever the trouble was."""
    for endpoint in (ONE, TWO):
        store.ways.open(endpoint, B)
        fail(store, endpoint, A, times=FAILING)
    fail(store, ONE, C, times=FAILING)

    store.ways.keep([B, C])

    assert set(store.ways.look()) == {C}
    assert shut(store, C) == [ONE.window_id]
    store.ways.keep([B])
    assert not store.client.exists(store.keys.ways)
    assert store.client.hget(store.keys.epoch, "ways") is None


def test_to_forget_nobody_changes_nothing(store):
    """As it is between runs as a rule."""
    fail(store, ONE, here=True)

    store.ways.keep([A])
    store.ways.keep([A, B])

    assert shut(store) == [ONE.window_id]
