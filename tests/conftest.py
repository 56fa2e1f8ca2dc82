"""Fixtures of all tests: an environment without settings of RLM, and on request a real server for this session."""

from __future__ import annotations

import errno
import functools
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from unittest import mock
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling

from rlm.ledger import embedded
from rlm.ledger.connect import make_client
from tests.side_by_side import SideBySide

#: The servers the store is tested on: the bundled one, and Debian's `redis-server`.
SERVERS = ("valkey", pytest.param("redis", marks=pytest.mark.rest))

# The duration of an example shows how busy the machine is, and nothing about the example.
settings.register_profile("rlm", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rlm")

#: A test belongs to the tier of its mark, by default to the first.
TIERS = ("default", "rest", "long")


def pytest_addoption(parser):
    parser.addoption(
        "--tier",
        choices=(*TIERS, "all"),
        default=TIERS[0],
        help="which tests to run: `default` (those without a mark), those marked `rest` or `long`, or `all`",
    )
    parser.addoption("--long", action="store_const", const="all", dest="tier", help="the same as `--tier all`")


def pytest_collection_modifyitems(config, items):
    """Leave out the other tiers, and begin with the tests that run alone."""
    wanted = config.getoption("--tier")
    left_out = [item for item in items if wanted not in {"all", tier_of(item)}]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if wanted in {"all", tier_of(item)}]
    items.sort(key=lambda item: item.get_closest_marker("alone") is None)


class OneByOne(LoadFileScheduling):
    """Gives a free process the next test, or the next file whose tests share something."""

    def _split_scope(self, nodeid):
        path, _, _ = nodeid.partition("::")
        return path if shares(path) else nodeid


@functools.cache
def shares(path):
    return 'scope="module"' in (Path(__file__).parents[1] / path).read_text()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return OneByOne(config, log)


def tier_of(item):
    """Return the tier of a test; of two marks the last counts."""
    return next((name for name in reversed(TIERS) if item.get_closest_marker(name)), TIERS[0])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session):
    """Print below the last line how to run the tests that were left out."""
    result = yield
    config = session.config
    if config.getoption("--tier") == TIERS[0] and not hasattr(config, "workerinput"):
        config.get_terminal_writer().line(
            "That was the default tier. To run the rest, in minutes: uv run pytest --tier rest. Hours: --tier long."
        )
    return result


_TURNS = pytest.StashKey[SideBySide]()
_PLACE = pytest.StashKey[str]()


def pytest_configure(config):
    if hasattr(config, "workerinput"):  # one of several processes that run the tests side by side
        config.stash[_TURNS] = SideBySide(Path(config.workerinput["turns"]))
        config.add_cleanup(config.stash[_TURNS].close)
    else:
        place = tempfile.TemporaryDirectory(prefix="rlm-tests-", ignore_cleanup_errors=True)
        config.stash[_PLACE] = os.environ["TMPDIR"] = place.name  # what killed processes leave goes with it
        config.add_cleanup(place.cleanup)
        config.add_cleanup(functools.partial(_remove_dead_templates, time.time()))


def _remove_dead_templates(since):
    """Remove what templates of workers left in /tmp that were killed with all their family: a socket nobody answers.

    To a living one, which a stream would end, a datagram does not fit.
    """
    for listener in Path("/tmp").glob("pymp-*/listener-*"):
        # A living one may end just now.
        with suppress(FileNotFoundError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            if listener.parent.stat().st_mtime >= since and client.connect_ex(str(listener)) == errno.ECONNREFUSED:
                shutil.rmtree(listener.parent, ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    """Pass each test process the directory in which they agree on turns."""
    node.workerinput["turns"] = node.config.stash[_PLACE]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    """Wait for a turn, before any time-out starts."""
    if _TURNS not in item.config.stash:
        return (yield)
    alone = item.get_closest_marker("alone") is not None and item.get_closest_marker("skip") is None
    with item.config.stash[_TURNS].take(alone=alone):
        return (yield)


@pytest.fixture(scope="session", autouse=True)
def _signals_as_in_a_terminal():
    """Restore signals that `nohup` or a shell's background job ignores, because started processes inherit that."""
    handlers = {
        signal.SIGHUP: signal.SIG_DFL,
        signal.SIGQUIT: signal.SIG_DFL,
        signal.SIGINT: signal.default_int_handler,
    }
    ignored = [signum for signum in handlers if signal.getsignal(signum) is signal.SIG_IGN]
    for signum in ignored:
        signal.signal(signum, handlers[signum])
    yield
    for signum in ignored:
        signal.signal(signum, signal.SIG_IGN)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("RLM_", "SENTRY_")) or name in {"REDIS_URL", "FORCE_COLOR"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("RLM_LOG_FORMAT", "text")  # what processes log into files is read by those who test


@contextmanager
def running_server(kind: str, data_dir: Path) -> Iterator[str]:
    """Run a server of one of the `SERVERS` in `data_dir`, set up as the embedded one is, and yield its URL."""
    binary = embedded.binary_path() if kind == "valkey" else _redis_server()
    with ExitStack() as users:
        with mock.patch.object(embedded, "binary_path", return_value=binary):
            server = users.enter_context(embedded.EmbeddedServer(data_dir))
        yield server.url


def _redis_server() -> Path:
    found = shutil.which("redis-server")
    if found is None and os.environ.get("CI"):
        pytest.fail("redis-server is not installed, and CI runs the store tests on it: apt-get install redis-server")
    if found is None:
        pytest.skip("redis-server is not installed")
    return Path(found)


@pytest.fixture(scope="session")
def valkey_only_url(tmp_path_factory):
    """The URL of the bundled Valkey, for tests that need one real server."""
    with running_server("valkey", tmp_path_factory.mktemp("valkey")) as url:
        yield url


@pytest.fixture(scope="session")
def server_url(request, tmp_path_factory):
    """The URL of one of the `SERVERS`; by default the bundled one. See tests/store/conftest.py."""
    kind = getattr(request, "param", "valkey")
    if kind == "valkey":
        yield request.getfixturevalue("valkey_only_url")
        return
    with running_server(kind, tmp_path_factory.mktemp(kind)) as url:
        yield url


@pytest.fixture
def redis_client(server_url):
    """A client of `server_url` like RLM's own."""
    with make_client(server_url) as client:
        yield client


@pytest.fixture
def prefix(redis_client):
    """A part that this test's keys must contain; they are deleted afterwards, and no others."""
    prefix = f"t{uuid4().hex[:8]}"
    yield prefix
    if keys := list(redis_client.scan_iter(match=f"*{prefix}*", count=1000)):
        redis_client.delete(*keys)
