"""Fixtures of the store's tests: a store of their own on each real server, a lease, an open run."""

from __future__ import annotations

import pytest
from msgspec import structs

from rlm.ledger import intake
from rlm.ledger.store import Store
from rlm.processes.signals import StopSignals
from rlm.settings import load_settings
from tests.conftest import SERVERS
from tests.store import deadletters, steps
from tests.store.windows import trust
from tests.values import replace


def pytest_generate_tests(metafunc):
    """Run tests on the bundled server, and again on Redis: in the tier `rest` if servers may differ, else in `long`.

    They may differ in scripts and their errors, clocks, `INFO`, connections, and in what survives a restart.
    """
    if "server_url" not in metafunc.fixturenames or hasattr(metafunc.module, "server_url"):
        return
    differing = metafunc.definition.get_closest_marker("both_servers")
    servers = SERVERS if differing else ("valkey", pytest.param("redis", marks=pytest.mark.long))
    metafunc.parametrize("server_url", servers, indirect=True, scope="session")


@pytest.fixture(scope="session")
def _default_settings(tmp_path_factory):
    file = tmp_path_factory.mktemp("settings") / "rlm.toml"
    file.write_text("")
    return load_settings(file, {})


@pytest.fixture
def settings(_default_settings, server_url, prefix):
    """The built-in settings with keys and lists of this test's own."""
    lists = {name: f"{prefix}_{name}" for name in ("events", "processing", "failed")}
    return replace(
        _default_settings,
        redis=structs.replace(_default_settings.redis, url=server_url, prefix=prefix),
        queue=structs.replace(_default_settings.queue, **lists),
    )


@pytest.fixture
def make_store(settings):
    """Make a store over the test's keys, as of another process, or with changed settings.

    `make_store(queue={"dedupe_seconds": 0})` changes a value.
    """
    made = []

    def make(**changes):
        sections = {name: structs.replace(getattr(settings, name), **values) for name, values in changes.items()}
        changed = replace(settings, **sections)
        made.append(Store(changed, changed.redis.url))
        if not made[-1].client.hexists(made[-1].keys.lease, "server"):
            trust(made[-1])
        return made[-1]

    yield make
    for store in made:
        store.client.close()


@pytest.fixture
def store(settings):
    """A store without an open run, empty except for the trust in its server; the test's data is deleted."""
    with Store(settings, settings.redis.url) as store:
        trust(store)
        yield store


@pytest.fixture
def token(store):
    """The fencing token of the lease, which `steps.CONDUCTOR` holds for longer than any test takes."""
    return store.leases.contend(steps.CONDUCTOR, 600).token


@pytest.fixture
def types(settings):
    """The configured event types, from high to low priority; `steps.TYPE` is the first."""
    return settings.event_types


@pytest.fixture
def running(store, token):
    """Open and start a run with `number` pending events `i1:TYPE`, `i2:TYPE`, ...; two events: `running(2)`."""

    def start(number=0, type_name=steps.TYPE, window_seconds=60.0):
        steps.push(store, *steps.items(number, type_name))
        return steps.start_run(store, token, window_seconds=window_seconds)

    return start


@pytest.fixture
def office(store):
    """The office of a conductor in this process, which holds the lease."""
    from scheduler.office import Office  # few tests need it

    with StopSignals() as stop:
        made = Office(store, stop, allow_volatile=True, cancels=True)
        made.take(1)
        yield made
        made.resign()


@pytest.fixture
def letter(store, token, running):
    """The letter of event `i1`, rejected after an attempt in a closed run."""
    run = running(1)
    letter = deadletters.reject(store)
    deadletters.close(store, token, run)
    return letter


@pytest.fixture
def run(store, token):
    return steps.open_run(store, token)


@pytest.fixture
def small_chunks(monkeypatch):
    """Two items a chunk."""
    monkeypatch.setattr(intake, "CHUNK_ITEMS", 2)
