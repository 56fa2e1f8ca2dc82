"""The API of the benchmarks: a process of its own, whose address is read from its output."""

from __future__ import annotations

from urllib.request import urlopen

from benchmarks.harness.api import ApiProcess
from rlm.sandbox.configuration import demo_document
from rlm.settings import load_settings


def test_its_address_is_found_whatever_it_warns_of(tmp_path):
    """The endpoints lead elsewhere, of which the mock API warns in a line of its own."""
    config = tmp_path / "rlm.toml"
    config.write_text(demo_document(load_settings(None, {}), 10, "http://127.0.0.1:1"))

    with ApiProcess(config) as api:
        assert urlopen(f"{api.url}/_mock/summary", timeout=10).status == 200
        assert api.arrivals == []
