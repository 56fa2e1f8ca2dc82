"""require_schema: schedulers of a lower schema conduct no more after this one, because of what it writes next."""

from __future__ import annotations

import pytest

from rlm import LEAST_TO_UNFOLD, SCHEMA
from rlm.core.errors import FencedError, StoreError
from rlm.ledger import leases as leases_module
from tests.store import looks, steps


def barred(store, monkeypatch, schema):
    """Return whether a scheduler of a schema is barred, once the lease is free; it is given up again."""
    with monkeypatch.context() as patch:
        patch.setattr(leases_module, "SCHEMA", schema)
        standing = store.leases.contend("other", 600)
    assert bool(standing.token) != standing.barred
    store.leases.release("other")
    return standing.barred


def test_a_lower_schema_is_barred_and_no_other(store, token, monkeypatch):
    """From the next time that it asks for the lease."""
    store.leases.require(token, LEAST_TO_UNFOLD)
    store.leases.release(steps.CONDUCTOR)

    assert store.leases.least() == LEAST_TO_UNFOLD
    asked = (LEAST_TO_UNFOLD - 1, LEAST_TO_UNFOLD, LEAST_TO_UNFOLD + 1, SCHEMA)
    assert [barred(store, monkeypatch, schema) for schema in asked] == [True, False, False, False]


def test_only_what_a_holder_must_have_is_changed(store, token):
    """Owner, end and token of the lease stay as they are, and so does all else."""
    with looks.nothing_changes(store, store.keys.lease):
        before = store.client.hgetall(store.keys.lease)
        store.leases.require(token, LEAST_TO_UNFOLD)

    assert store.client.hgetall(store.keys.lease) == before | {b"least": b"%d" % LEAST_TO_UNFOLD}


def test_twice_is_once(store, token):
    """As after a lost reply."""
    store.leases.require(token, 7)

    with looks.nothing_changes(store):
        store.leases.require(token, 7)


def test_it_only_rises(store, token):
    """What was written for a higher schema is still there; and it stays over renewals and successors."""
    store.leases.require(token, 9)

    with looks.nothing_changes(store):
        store.leases.require(token, LEAST_TO_UNFOLD)
    store.leases.release(steps.CONDUCTOR)

    assert store.leases.contend(steps.CONDUCTOR, 600).barred
    assert store.leases.least() == 9


@pytest.mark.parametrize("held", ["x", "", "-1"])
def test_what_is_no_number_bars_nobody_and_is_replaced(store, token, held):
    """A damaged field is as if there were none."""
    store.client.hset(store.keys.lease, "least", held)

    store.leases.require(token, 4)

    assert store.leases.least() == 4


def test_a_deposed_conductor_bars_nobody(store, token):
    """Its successor may be the one that would be barred."""
    steps.take_over(store)

    with looks.nothing_changes(store), pytest.raises(FencedError, match="require_schema"):
        store.leases.require(token, LEAST_TO_UNFOLD)


def test_without_a_lease_nobody_is_barred(store, token):
    """An emptied Redis gets none here: it would have no token."""
    store.client.delete(store.keys.lease)

    with looks.nothing_changes(store), pytest.raises(FencedError):
        store.leases.require(token, LEAST_TO_UNFOLD)


def test_a_damaged_lease_is_refused(store, token):
    """Whoever asks for it next sets it aside."""
    store.client.set(store.keys.lease, "x")

    with looks.nothing_changes(store), pytest.raises(StoreError, match="WRONGTYPE"):
        store.leases.require(token, LEAST_TO_UNFOLD)


@pytest.mark.parametrize("flaw", [("token", "garbage"), None], ids=["no token", "no hash"])
def test_once_a_damaged_lease_is_set_aside_lower_schemas_are_barred(store, token, monkeypatch, flaw):
    """Whom it barred is not known any more: whoever sets it aside bars all that read less than itself."""
    store.leases.require(token, LEAST_TO_UNFOLD)
    if flaw:
        store.client.hset(store.keys.lease, *flaw)
    else:
        store.client.set(store.keys.lease, "x")

    assert [barred(store, monkeypatch, schema) for schema in (SCHEMA, SCHEMA - 1, SCHEMA)] == [False, True, False]
    assert store.leases.least() == SCHEMA


def test_ten_at_once_leave_the_highest(store, token):
    """Whatever their order."""
    steps.at_once(*[lambda least=least: store.leases.require(token, least) for least in range(3, 13)])

    assert store.leases.least() == 12
