"""How a command ends, whatever happens in it; the overview, and the answer to a mistyped word."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from rlm.cli.group import rlm
from rlm.settings.secrets import Secrets, remember
from tests.each import each


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


@each(
    ("words", "expected"),
    [
        (("stat",), "No such command 'stat'. (Did you mean one of: 'start', 'status'?)"),
        (("queue", "stat"), "No such command 'stat'. Did you mean 'stats'?"),
        (("worker", "lst"), "No such command 'lst'. Did you mean 'list'?"),
        (("xyzzy",), "No such command 'xyzzy'.\n"),
        (("--config", "x", "status"), "No such option '--config'"),
        (("--verson",), "No such option '--verson'. Did you mean '--version'?"),
        (("status", "--jsn"), "No such option '--jsn'. Did you mean '--json'?"),
    ],
)
def test_a_mistyped_word_gets_the_nearest_one(words, expected):
    done = run(*words)

    assert done.exit_code == 2
    assert expected in done.stderr


def test_a_process_with_a_log_leaves_the_whole_story_there(broken, caplog):
    # A log, as telemetry sets one up (pytest has one of its own)
    run("config", "check")

    (record,) = [one for one in caplog.records if one.name == "rlm.process"]
    assert record.levelname == "CRITICAL"
    assert record.exc_info is not None
    assert record.exc_info[0] is LookupError
    assert record.getMessage() == "The process ends with an unexpected error"


def test_help_loads_no_library_that_it_does_not_need():
    # A fresh interpreter, for this one has loaded everything
    code = (
        "import sys; from rlm.cli.group import rlm; rlm(['--help'], standalone_mode=False);"
        "unwanted = {'redis', 'rich', 'sentry_sdk', 'dramatiq'} & set(sys.modules);"
        "sys.exit(', '.join(unwanted) or None)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)

    assert done.stderr == ""
    assert "Usage:" in done.stdout
