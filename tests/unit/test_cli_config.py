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


def test_no_secret_is_shown(config):
    shown = [run("show", *more, "--config", str(config)).output for more in ((), ("--json",))]

    assert all("hush" not in text for text in shown)
    assert all("A_KEY" in text for text in shown)


def test_a_key_chooses(config):
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
