"""Failed calls: counted by endpoint and kind, and described with their place."""

from __future__ import annotations

import pytest

from rlm.core.endpoint import Endpoint, Limit, address_of

ONE, TWO = (
    Endpoint(name, f"https://user:secret@api.example/{name}", Limit.parse("9/minute"), 1.0) for name in ("one", "two")
)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://api.example/x?key=s3cret", "api.example:80"),
        ("https://me:s3cret@api.example", "api.example:443"),
        ("http://[::1]:81/", "[::1]:81"),
    ],
)
def test_an_address_is_host_and_port_and_nothing_that_may_be_a_secret(url, address):
    """Whatever else the URL holds."""
    assert address_of(url) == address
