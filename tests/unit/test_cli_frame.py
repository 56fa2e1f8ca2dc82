"""How a command ends, whatever happens in it; the overview, and the answer to a mistyped word."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from rlm.cli import common
from rlm.cli.group import COMMANDS, OVERVIEW, rlm
from rlm.core.errors import InterruptedByHandError, StoreUnreachableError
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
    """It says what, that it is a fault of RLM, and what to type; there is no traceback, and no secret."""
    done = run("config", "check")

    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("Error: LookupError: no such thing at redis://user:***@host/0 (rlm/cli/common.py:")
    assert "fault of RLM. Run it again with --debug" in done.stderr


def test_a_fault_is_not_put_down_to_a_folder_called_rlm(monkeypatch):
    """The file named is the last of RLM's packages, though a file of another program lies in a folder of that name."""
    # An error that comes up in somebody else's file, below a folder called rlm
    theirs: dict[str, Any] = {}
    code = "def fail(*_, **__): raise LookupError('no such thing')"
    exec(compile(code, "/opt/rlm/tests/theirs.py", "exec"), theirs)  # the name of a file is all it needs
    monkeypatch.setattr("rlm.settings.load_settings", theirs["fail"])

    done = run("config", "check")

    assert " (rlm/cli/common.py:" in done.stderr


@pytest.mark.parametrize("words", [("--debug", "config", "check"), ("config", "check", "--debug"), ("config", "check")])
def test_debug_shows_the_traceback(broken, monkeypatch, words):
    """Before the command, behind it, or by the environment; without the secrets, and the line comes last."""
    # It is asked for in one of three ways
    if "--debug" not in words:
        monkeypatch.setenv("RLM_DEBUG", "1")

    done = run(*words)

    assert done.exit_code == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert "hunter2" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: LookupError")


def test_an_error_of_rlm_has_its_own_words_and_code(monkeypatch):
    """It is no fault of RLM; only with --debug there is a traceback."""

    # A Redis that is away
    def fail(*_args, **_more):
        raise StoreUnreachableError("Redis is away", "start it")

    monkeypatch.setattr("rlm.settings.load_settings", fail)

    plain, debugged = run("config", "show"), run("config", "show", "--debug")

    assert plain.exit_code == debugged.exit_code == 4
    assert plain.stderr == "Error: Redis is away: start it\n"
    assert "Traceback" in debugged.stderr


def test_an_interruption_is_no_error(monkeypatch):
    """A demo that is ended early says so, and ends with the code of an interrupted command."""

    # Given a command that notices a signal in the middle of its work
    def fail(*_args, **_more):
        raise InterruptedByHandError("The demo was interrupted.")

    monkeypatch.setattr("rlm.settings.load_settings", fail)

    # When it ends
    done = run("demo")

    # Then it was interrupted, and did not fail
    assert done.exit_code == 130
    assert done.stderr == "The demo was interrupted.\n"


def test_an_error_of_the_system_is_no_fault_of_rlm(monkeypatch):
    """A full disk, say: its words, and how to see where."""

    # A disk that is full
    def fail(*_args, **_more):
        raise OSError(28, "No space left on device", "/tmp/x")

    monkeypatch.setattr("rlm.settings.load_settings", fail)

    done = run("config", "show")

    assert done.exit_code == 1
    assert "No space left on device: '/tmp/x'" in done.stderr
    assert "fault" not in done.stderr


@each(
    ("words", "expected"),
    [
        (("stat",), "No such command 'stat'. Did you mean 'start' or 'status'?"),
        (("queue", "stat"), "No such command 'stat'. Did you mean 'stats'?"),
        (("worker", "lst"), "No such command 'lst'. Did you mean 'list'?"),
        (("xyzzy",), "No such command 'xyzzy'.\n"),
        (("--config", "x", "status"), "No such option '--config' here. Options go after the command."),
        (("queue", "--json", "stats"), "No such option '--json' here. Options go after the command."),
        (("--verson",), "No such option '--verson'. Did you mean '--version'?"),
        (("status", "--jsn"), "No such option '--jsn'. Did you mean '--json'?"),
    ],
)
def test_a_mistyped_word_gets_the_nearest_one(words, expected):
    """A command, one of a group's, an option; none where nothing is near."""
    done = run(*words)

    assert done.exit_code == 2
    assert expected in done.stderr


def test_the_overview_has_sections_and_examples():
    """Each command stands in it once, with its line, and none is imported for it."""
    shown = run("--help").stdout

    assert [line for line in shown.splitlines() if line in {f"{title}:" for title in OVERVIEW}] == [
        f"{title}:" for title in OVERVIEW
    ]
    assert all(shown.count(f"\n  {name} ") == 1 for name in COMMANDS)
    assert "rlm init " in shown.partition("Examples:")[2]


def test_a_process_with_a_log_leaves_the_whole_story_there(broken, caplog):
    """A scheduler, say, which nobody can run again with --debug in the same moment; from there Sentry has it, too."""
    # A log, as telemetry sets one up (pytest has one of its own)
    run("config", "check")

    (record,) = [one for one in caplog.records if one.name == "rlm.process"]
    assert record.levelname == "CRITICAL"
    assert record.exc_info is not None
    assert record.exc_info[0] is LookupError
    assert record.getMessage() == "The process ends with an unexpected error"


def test_help_loads_no_library_that_it_does_not_need():
    """`rlm --help` is there at once: what reads settings, talks to Redis or draws is loaded when a command needs it."""
    # A fresh interpreter, for this one has loaded everything
    code = (
        "import sys; from rlm.cli.group import rlm; rlm(['--help'], standalone_mode=False);"
        "unwanted = {'redis', 'rich', 'sentry_sdk', 'dramatiq'} & set(sys.modules);"
        "sys.exit(', '.join(unwanted) or None)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)

    assert done.stderr == ""
    assert "Usage:" in done.stdout


def test_a_person_is_told_that_redis_is_waited_for(monkeypatch):
    """A command that is silent for seconds looks as if it hung; one that has its answer at once says nothing."""
    told, answered = [], threading.Event()

    def say(words):
        told.append(words)
        answered.set()

    @contextmanager
    def open_store(_settings, _server):
        assert answered.wait(20)
        yield SimpleNamespace(ping=lambda: None, require_schema=lambda: None)

    monkeypatch.setattr(common, "say", say)
    monkeypatch.setattr(common, "unread_url", lambda _settings: "")
    monkeypatch.setattr("rlm.ledger.server.server_there", lambda _settings: None)
    monkeypatch.setattr("rlm.ledger.open_store", open_store)
    monkeypatch.setattr(common, "PATIENCE_SECONDS", 0.01)
    for url in ("redis://127.0.0.1", "embedded"):
        answered.clear()
        with common.opened(SimpleNamespace(redis=SimpleNamespace(url=url))):
            pass
    monkeypatch.setattr(common, "PATIENCE_SECONDS", 60.0)
    with common.opened(SimpleNamespace(redis=SimpleNamespace(url=url))):
        pass

    assert told == [
        "Redis has not answered yet; waiting for it.",
        "The embedded server has not answered yet: it starts, or still reads its data. Waiting for it.",
    ]
