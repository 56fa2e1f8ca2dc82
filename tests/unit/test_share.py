"""The lines by which another program shares the limit of an endpoint."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rlm.admin.endpoints import share
from rlm.core.errors import NoSuchEndpointError
from rlm.settings import load_settings
from tests.each import each

FILE = """
[redis]
prefix = "mine"
[types.A]
rate_limit = "20 per 0.6 second; 1000/hour"
endpoints = [ { name = "a", url = "https://HOST:443/a" }, { name = "b", url = "https://host/b?key=${API_KEY}" } ]
"""


class Limiter(SimpleNamespace):
    """What stands for the limiter: it remembers what it is asked."""

    def hit(self, item, url):
        self.asked = item.amount, item.get_expiry(), url
        return True


@pytest.fixture
def settings(tmp_path):
    file = tmp_path / "rlm.toml"
    file.write_text(FILE)
    return load_settings(file, {"API_KEY": "s3cr3t-key"})


@each("name", ["a", "b"])
@each("redis_url", ["redis://127.0.0.1:6379/0", "redis://:s3cr3t-word@127.0.0.1:6379/0?socket_timeout=2"])
def test_the_lines_do_what_they_say_and_have_no_secret(settings, monkeypatch, name, redis_url):
    """What is secret comes from the environment of the program that has them."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("API_KEY", "s3cr3t-key")
    store = SimpleNamespace(url=redis_url, settings=settings, endpoints=lambda: settings.endpoints)

    shared = share(store, name)

    assert "s3cr3t" not in str(shared)
    importing, making, asking = shared.lines
    there = {}
    exec(f"{importing}\n{making}", there)
    assert there["limiter"].storage.check() is False
    there["limiter"] = Limiter()
    exec(asking, there)
    assert there["may_call"]
    assert there["limiter"].asked == (20, 0.6, settings.endpoints[name].url)
    assert shared.limit == "20 per 0.6 second; 1000/hour"


def test_a_name_that_no_endpoint_has(settings):
    """A budget has no calls of its own."""
    store = SimpleNamespace(settings=settings, endpoints=lambda: settings.endpoints)

    with pytest.raises(NoSuchEndpointError, match="rlm endpoint list"):
        share(store, "account")
