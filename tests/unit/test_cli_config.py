"""`rlm config`: the values in force and their origin, secrets masked; whether the configuration is valid."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from rlm.cli.group import rlm

FILE = """
[run]
target = 0.5
[types.A]
rate_limit = "5/minute"
endpoints = [{ name = "a", url = "http://h/a?token=${A_KEY}", headers = { Authorization = "hush", X = "env:A_KEY" } }]
[types."b.c"]
rate_limit = "5/minute"
endpoints = [{ name = "b", url = "http://h/b" }]
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A file and an environment full of secrets."""
    path = tmp_path / "rlm.toml"
    path.write_text(FILE)
    monkeypatch.setenv("REDIS_URL", "redis://user:hush@host:6379/0")
    monkeypatch.setenv("SENTRY_DSN", "https://hush@sentry.example.com/1")
    monkeypatch.setenv("A_KEY", "hush")
    monkeypatch.setenv("RLM_WORKERS__MAX", "4")
    return path


def run(*words, code=0):
    """Run a command in this process, which ends with `code`."""
    done = CliRunner().invoke(rlm, ["config", *words])
    assert done.exit_code == code, done.output
    return done


def test_each_value_is_shown_with_where_it_comes_from(config):
    """Default, file, or the name of the variable."""
    found = json.loads(run("show", "--json", "--config", str(config)).stdout)

    assert found["file"] == str(config)
    settings = found["settings"]
    assert settings["run.target"] == {"value": 0.5, "from": f"file {config}"}
    assert settings["run.every_seconds"] == {"value": 180.0, "from": "default"}
    assert settings["workers.max"] == {"value": 4, "from": "environment RLM_WORKERS__MAX"}
    assert settings["redis.url"] == {"value": "redis://user:***@host:6379/0", "from": "environment REDIS_URL"}
    assert settings["sentry_dsn"] == {"value": "***", "from": "environment SENTRY_DSN"}
    assert settings["types.A.endpoints[0].headers.X"]["value"] == "env:A_KEY"


def test_no_secret_is_shown(config):
    """Neither for a person nor for a program."""
    shown = [run("show", *more, "--config", str(config)).output for more in ((), ("--json",))]

    assert all("hush" not in text for text in shown)
    assert all("A_KEY" in text for text in shown)


def test_a_key_chooses(config):
    """One, or all of a table; one that is not there is a usage error with the nearest."""
    found = json.loads(
        run("show", "workers", "types.A.endpoints", "run.target", "--json", "--config", str(config)).stdout
    )
    wrong = run("show", "run.targt", "--config", str(config), code=2)

    assert {key.partition(".endpoints")[0] for key in found["settings"]} == {
        "workers.min",
        "workers.max",
        "workers.max_here",
        "workers.threads",
        "types.A",
        "run.target",
    }
    assert "did you mean 'run.target'?" in wrong.stderr


def test_check_says_that_all_is_right(config):
    """With the file and what is in it; nothing is started."""
    said = run("check", "--config", str(config)).stdout
    found = json.loads(run("check", "--json", "--config", str(config)).stdout)

    assert said.startswith(f"ok  The configuration {config} can be used: 2 types, 2 endpoints, 0 budgets.")
    assert found == {"ok": True, "file": str(config), "faults": []}
    assert not (config.parent / ".rlm").exists()


def test_check_says_everything_that_is_wrong(config):
    """All faults at once, a line each, and exit 2."""
    # Two faults
    config.write_text(f"{FILE}\n[retry]\nmax_runs = 0\n[workrs]\n")

    said = run("check", "--config", str(config), code=2)
    found = json.loads(run("check", "--json", "--config", str(config), code=2).stdout)

    assert said.stdout == ""
    assert "retry.max_runs = 0" in said.stderr
    assert not found["ok"]
    assert len(found["faults"]) == 2
    assert "did you mean 'workers'?" in "".join(found["faults"])
