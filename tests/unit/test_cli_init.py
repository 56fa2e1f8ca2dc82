"""`rlm init`: first files, which load as they are, and never replace an existing one."""

from __future__ import annotations

import json
import re
import tomllib

import pytest
from click.testing import CliRunner

from rlm.cli.group import COMMANDS, rlm
from rlm.settings import load_settings
from rlm.settings.model import SECTIONS, BudgetSettings, EndpointSettings, SuccessSettings, TypeSettings, settings_of
from rlm.settings.template import first_files

FILES = ["Procfile", "rlm.toml"]
TEXTS = first_files()


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


def test_it_writes_what_loads_as_it_is(place):
    # The built-in configuration
    built_in = load_settings(None, {})

    said = run("init").stdout

    assert sorted(path.name for path in place.iterdir()) == FILES
    assert f"ok  The configuration {place}/rlm.toml" in run("config", "check").stdout
    assert load_settings(place / "rlm.toml", {}).revision == built_in.revision
    assert [word for word in re.findall(r"rlm ([a-z-]+)", said) if word not in COMMANDS] == []
    assert all(f"rlm {command}" in said for command in ("mock-api", "up", "queue push", "start --wait", "result"))
    assert max(map(len, said.splitlines())) <= 80


def test_what_is_there_is_kept(place):
    # A file of somebody's own
    (place / "rlm.toml").write_text("# mine\n")

    said = run("init").stdout
    found = json.loads(run("init", "--json").stdout)

    assert (place / "rlm.toml").read_text() == "# mine\n"
    assert "kept     rlm.toml" in said
    assert (place / "Procfile").exists()
    assert found == {"directory": str(place), "written": [], "kept": ["rlm.toml", "Procfile"]}


def test_the_template_has_every_setting():
    # The template, and the same with every default no comment any more
    text = TEXTS["rlm.toml"]
    bold = re.sub(r"^# (\w+ = .*)$", r"\1", text, flags=re.MULTILINE).replace('rate_limit = "50/minute"', "")

    for name, section in SECTIONS.items():
        assert set(tomllib.loads(bold)[name]) == set(settings_of(section))
    for table in (TypeSettings, EndpointSettings, SuccessSettings, BudgetSettings):
        assert all(f"#   {key}: " in text for key in settings_of(table))
