"""How a command ends, whatever happens in it; the overview, and the answer to a mistyped word."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from rlm.cli.group import rlm
from rlm.settings.secrets import Secrets, remember


def run(*words):
    """Run a command in this process."""
    return CliRunner().invoke(rlm, words)


@pytest.fixture
def broken(monkeypatch):
    """Make loading the settings fail unexpectedly, with a password in the message."""

    def fail(*_args, **_more):
        remember(Secrets(["hunter2"]))
        raise LookupError("no such thing\nat redis://user:hunter2@host/0")

    monkeypatch.setattr("rlm.settings.load_settings", fail)
    yield
    remember(Secrets())


def test_an_error_nobody_foresaw_is_one_line(broken):
    done = run("config", "check")

    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("Error: LookupError: no such thing at redis://user:***@host/0")
    assert "fault of RLM. Run it again with --debug" in done.stderr


@pytest.mark.parametrize("words", [("--debug", "config", "check"), ("config", "check", "--debug"), ("config", "check")])
def test_debug_shows_the_traceback(broken, monkeypatch, words):
    # It is asked for in one of three ways
    if "--debug" not in words:
        monkeypatch.setenv("RLM_DEBUG", "1")

    done = run(*words)

    assert done.exit_code == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert "hunter2" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: LookupError")
