"""open_way: after an endpoint's answer to a host's call, the way is open and the host not cut off."""

from __future__ import annotations

from rlm.ledger.ways import FAILING, RECENT_SECONDS
from tests.store import looks
from tests.store.ways import A, B, fail, pass_time, shut
from tests.store.windows import make_endpoint

ONE, TWO = (make_endpoint(name=name) for name in ("one", "two"))


def cut_off(store):
    """Cut a host off: both of its ways are shut."""
    for endpoint in (ONE, TWO):
        store.ways.open(endpoint, B)
        fail(store, endpoint, times=FAILING)
    assert store.ways.look()[A].cut_off


def test_an_answer_opens_the_way(store):
    """That is said once; where there was no trouble nothing is said."""
    store.ways.open(ONE, B)
    fail(store, ONE, times=FAILING)

    assert store.ways.open(ONE, A) == (True, "")
    assert store.ways.open(ONE, A) == (False, "")
    assert store.ways.open(TWO, A) == (False, "")
    assert shut(store) == []


def test_a_host_is_in_service_again_once_all_its_ways_are_open(store):
    """With the first answer it is no longer cut off, for something gets through."""
    cut_off(store)

    assert store.ways.open(ONE, A) == (True, "")
    assert not store.ways.look()[A].cut_off
    assert store.ways.open(TWO, A) == (True, "part")
    assert store.ways.look() == {}


def test_with_the_first_answer_all_ways_of_a_cut_off_host_are_tried(store):
    """They were shut for the same reason."""
    cut_off(store)
    store.ways.open(ONE, A)

    assert store.ways.look()[A].opens_at(TWO.window_id) <= store.now()


def test_nothing_is_left_of_a_trouble_that_is_over(store):
    """So it costs nothing any more, and no mark says that there is one."""
    cut_off(store)
    for endpoint in (ONE, TWO):
        store.ways.open(endpoint, A)

    assert not store.client.exists(store.keys.ways)
    assert store.client.hget(store.keys.epoch, "ways") is None


def test_a_failure_that_was_not_repeated_is_forgotten(store):
    """It takes as many in a row again."""
    store.ways.open(ONE, B)
    fail(store, ONE, times=FAILING - 1)
    store.ways.open(ONE, A)

    assert fail(store, ONE).shut_seconds == 0


def test_who_was_answered_long_ago_is_forgotten(store):
    """Hosts come and go."""
    store.ways.open(ONE, B)
    pass_time(store, RECENT_SECONDS + 1)
    store.ways.open(ONE, A)

    for key in (store.keys.well(ONE.window_id), store.keys.well_hosts):
        assert store.client.zrange(key, 0, -1) == [A.encode()]


def test_it_may_be_repeated(store):
    """Its answer may be lost."""
    store.ways.open(ONE, A)

    with looks.nothing_changes(store, store.keys.well(ONE.window_id), store.keys.well_hosts):
        store.ways.open(ONE, A)
