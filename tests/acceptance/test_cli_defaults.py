"""A command in a folder without a configuration announces what it is about to do there."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from rlm.cli.group import rlm
from rlm.core.errors import StoreError

MADE = "an embedded server is created in"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder without any configuration."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words):
    return CliRunner().invoke(rlm, words)


@pytest.mark.parametrize("words", [["start", "--wait"], ["up"], ["test"]])
def test_it_is_told_before_it_is_made(folder, monkeypatch, words):
    def fail(*_anything, **_named):
        raise StoreError("no server")

    # The upper floors first: a module that is imported by this must find below what is there.
    for place in (
        "ledger.Store",
        "ledger.store.url_in_use",
    ):
        monkeypatch.setattr(f"rlm.{place}", fail)

    assert run(*words).stderr.splitlines()[0].count(MADE) == 1
    assert not (folder / ".rlm").exists()


@pytest.mark.parametrize("words", [["queue", "stats", "--help"], ["config", "show"], ["queue", "stats"]])
def test_what_makes_no_server_does_not_say_so(folder, words):
    assert MADE not in run(*words).stderr
    assert not (folder / ".rlm").exists()
