"""How a command ends if something fails in it that nobody foresaw; `rlm init` replaces no file."""

from __future__ import annotations

from unittest import mock

import click
import pytest
from click.testing import CliRunner

from rlm.cli.group import rlm
from rlm.settings.secrets import Secrets, remember


@pytest.fixture
def broken(monkeypatch):
    """Make loading the settings fail unexpectedly, with a password in the message."""

    def fail(*_args, **_more):
        remember(Secrets(["hunter2"]))
        raise LookupError("no such thing\nat redis://user:hunter2@host/0")

    monkeypatch.setattr("rlm.settings.load_settings", fail)
    yield
    remember(Secrets())


def test_an_error_nobody_foresaw_is_one_line_and_with_debug_a_traceback(broken):
    done, debugged = (CliRunner().invoke(rlm, ["config", "check", *more]) for more in ([], ["--debug"]))

    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("Error: LookupError: no such thing at redis://user:***@host/0")
    assert debugged.exit_code == 1
    assert "Traceback (most recent call last)" in debugged.stderr
    assert "hunter2" not in debugged.stderr
    assert debugged.stderr.splitlines()[-1] == done.stderr.strip()


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (click.Abort, 1)])
def test_what_is_interrupted_ends_with_130_and_what_was_not_wanted_with_1(monkeypatch, error, code):
    monkeypatch.setattr("rlm.settings.load_settings", mock.Mock(side_effect=error))

    assert CliRunner().invoke(rlm, ["config", "check"]).exit_code == code


def test_what_is_there_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rlm.toml").write_text("# mine\n")

    said = CliRunner().invoke(rlm, ["init"])

    assert (said.exit_code, (tmp_path / "rlm.toml").read_text()) == (0, "# mine\n")
    assert (tmp_path / "Procfile").exists()
