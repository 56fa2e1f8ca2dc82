"""A short run of the intake's fuzzing: some thousands of items through the real drain, in a second or two."""

from __future__ import annotations

import pytest

from rlm.ledger.store import Store
from rlm.settings import load_settings
from tests.conftest import running_server
from tests.fuzz.intake import fuzz
from tests.fuzz.items import mutated_item, random_item, sized_item

pytestmark = pytest.mark.rest


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store on its own server, because batches are counted and deleted."""
    directory = tmp_path_factory.mktemp("fuzz")
    (directory / "rlm.toml").write_text("")
    with running_server("valkey", directory / "data") as url:
        store = Store(load_settings(directory / "rlm.toml", {}), url)
        yield store
        store.client.close()


@pytest.mark.parametrize(("make", "number"), [(random_item, 5000), (mutated_item, 2500)])
def test_every_item_is_events_or_a_dead_letter(store, make, number):
    """None is lost, none counts twice, none stops the drain; what stands in a letter is what was pushed."""
    found = fuzz(store, make, number, f"ci {make.__name__}")

    assert found.items == number
    assert found.taken > 20
    assert len(found.reasons) >= 7


def test_items_of_any_size_and_a_giant(store):
    """Up to the bound and a bit beyond, with so many types that letters abound, and one that cannot be read."""
    found = fuzz(store, sized_item, 1500, "ci sized", giant=5_000_000)

    assert found.items == 1501
    assert found.reasons["too_large"] >= 1
    assert found.reasons["unknown_type"] > 20
    assert found.taken > 1500


@pytest.mark.long
def test_a_million_items_of_each_kind(store):
    """The same, for some minutes."""
    assert fuzz(store, random_item, 1_000_000, "long random").items == 1_000_000
    assert fuzz(store, mutated_item, 100_000, "long mutated").items == 100_000
    assert fuzz(store, sized_item, 1_000_000, "long sized", giant=4_000_000).items == 1_000_001
