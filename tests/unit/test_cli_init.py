"""`rlm init`: first files, which load as they are, and never replace an existing one."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from rlm.cli.group import rlm


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty directory, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words, code=0, answer=""):
    """Run a command in this process, which ends with `code`."""
    done = CliRunner().invoke(rlm, words, input=answer)
    assert done.exit_code == code, done.output
    return done


def test_what_is_there_is_kept(place):
    # A file of somebody's own
    (place / "rlm.toml").write_text("# mine\n")

    said = run("init").stdout
    found = json.loads(run("init", "--json").stdout)

    assert (place / "rlm.toml").read_text() == "# mine\n"
    assert "kept     rlm.toml" in said
    assert (place / "Procfile").exists()
    assert found == {"directory": str(place), "written": [], "kept": ["rlm.toml", "Procfile"]}
