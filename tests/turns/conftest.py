"""A world of its own for each test, on the bundled server."""

from __future__ import annotations

import pytest
from msgspec import structs

from rlm.ledger.store import Store
from rlm.settings import load_settings
from tests.turns.world import GUARD, World
from tests.values import replace


@pytest.fixture(scope="session")
def _built_in(tmp_path_factory):
    file = tmp_path_factory.mktemp("settings") / "rlm.toml"
    file.write_text("")
    return load_settings(file, {})


@pytest.fixture
def store(_built_in, server_url, prefix):
    """A store over keys of this test's own."""
    settings = replace(
        _built_in,
        redis=structs.replace(_built_in.redis, url=server_url, prefix=prefix),
        queue=structs.replace(_built_in.queue, failed=f"{prefix}_failed"),
        run=structs.replace(_built_in.run, guard_seconds=GUARD),
    )
    with Store(settings, settings.redis.url) as store:
        yield store


@pytest.fixture
def world(store):
    """A ledger without events."""
    return World(store)
