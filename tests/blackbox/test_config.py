"""The configuration: defaults, files, variables, and what a wrong one does. Nothing runs here."""

from __future__ import annotations

import tomllib

import pytest

from tests.blackbox.system import System

TYPE = '[types.A]\nrate_limit = "30/minute"\nendpoints = [{ name = "a", url = "http://127.0.0.1:1/a" }]\n'
DEFAULTS = {
    "redis.url": "embedded", "redis.embedded_port": 0, "redis.prefix": "rlm",
    "queue.events": "wallet_audit_events", "queue.processing": "wallet_audit_processing",
    "queue.failed": "wallet_audit_failed", "queue.max_item_bytes": 65536, "queue.dedupe_seconds": 3600,
    "run.window_seconds": 180, "run.every_seconds": 180, "run.target": 0.75, "run.guard_seconds": 0.5,
    "run.history": 1000, "workers.min": 0, "workers.max": 20, "workers.threads": 5,
    "retry.max_attempts": 3, "retry.max_runs": 5, "retry.timeout_seconds": 10,
}  # fmt: skip
TYPES = {
    "REBALANCE_NEEDED": (5, 2.0, "rebalance_api"),
    "OPEN_POSITION_DETECTED": (4, 1.5, "open_position_api"),
    "OPEN_ORDER_DETECTED": (3, 1.0, "open_order_api"),
    "NEW_BALANCE_UPDATE": (2, 0.8, "balance_update_api"),
    "BALANCE_CHECK_REQUIRED": (1, 1.2, "balance_check_api"),
}
# What is wrong, and the key that must be named.
WRONG = {
    "[run]\nwindow_seconds = 0\n": "window_seconds",
    "[run]\nwindow_seconds = 200\n": "window_seconds",
    "[run]\ntarget = 1.5\n": "target",
    '[workers]\nmax = "many"\n': "max",
    "[workers]\nmin = 30\n": "min",
    "[workers]\nmaxx = 3\n": "maxx",
    '[redis]\nurl = "http://here"\n': "url",
    '[redis]\nprefix = "a b"\n': "prefix",
    "[nonsense]\nx = 1\n": "nonsense",
    TYPE.replace("30/minute", "30/fortnight"): "rate_limit",
    TYPE.replace("30/minute", "0/minute"): "rate_limit",
    TYPE.replace("127.0.0.1:1/a", "").replace("http://", "gopher://x"): "url",
    TYPE + TYPE.replace("types.A", "types.B").replace("1/a", "1/b"): "types.B",  # one name for two URLs
    TYPE + TYPE.replace("types.A", "types.B").replace('"a"', '"b"'): "types.B",  # two names for one URL
    TYPE + TYPE.replace("types.A", "types.B").replace("30/", "20/"): "types.B",  # two limits of one endpoint
    TYPE.replace(" }]", ', budget = "none" }]'): "budget",
    TYPE.replace(" }]", ', headers = { Host = "x" } }]'): "Host",
    TYPE.replace(" }]", ', headers = { X = "env:BLACKBOX_UNSET" } }]'): "BLACKBOX_UNSET",
}  # fmt: skip


@pytest.fixture(scope="module")
def system(shared):
    """A system of which nothing is started."""
    return shared({"A": {"rate_limit": "30/minute"}})


@pytest.fixture(scope="module")
def defaults(system):
    empty = system.directory / "empty.toml"
    empty.write_text("")
    return System.json(system, "config", "show", "--config", empty)["settings"]


def test_the_defaults_are_those_of_the_contract(defaults):
    assert {key: defaults[key]["value"] for key in DEFAULTS} == DEFAULTS
    shown = str(defaults)
    for name, (priority, seconds, primary) in TYPES.items():
        assert defaults[f"types.{name}.priority"]["value"] == priority
        assert defaults[f"types.{name}.processing_seconds"]["value"] == seconds
        assert defaults[f"types.{name}.rate_limit"]["value"] == "30/minute"
        assert all(f"overflow_{primary}_{n}" in shown for n in (1, 2, 3))


def test_a_value_is_shown_with_where_it_comes_from(system):
    env = {"RLM_WORKERS__MAX": "4", "REDIS_URL": "redis://user:hidden-pass@127.0.0.1:1/0"}
    document = system.json("config", "show", env=env)
    settings = document["settings"]
    assert settings["workers.max"]["value"] == 4
    assert "RLM_WORKERS__MAX" in settings["workers.max"]["from"]
    assert "REDIS_URL" in settings["redis.url"]["from"]
    assert "hidden-pass" not in str(document)
    assert str(system.file) in settings["workers.min"]["from"]
    assert settings["run.target"]["from"] == "default"


def test_the_file_is_that_of_the_option_else_of_the_variable_else_here(system):
    elsewhere = system.directory / "elsewhere.toml"
    elsewhere.write_text("[workers]\nmax = 7\n")
    third = system.directory / "third.toml"
    third.write_text("[workers]\nmax = 9\n")

    def most(*words, **env):
        return system.json("config", "show", *words, env=env)["settings"]["workers.max"]["value"]

    assert most() == 2
    assert most(RLM_CONFIG=str(elsewhere)) == 7
    assert most("--config", third, RLM_CONFIG=str(elsewhere)) == 9
    system.rlm("config", "check", "--config", system.directory / "none.toml", code=2)


@pytest.mark.rest
@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_file_stops_a_command_with_2_and_names_the_key(system, text):
    wrong = system.directory / "wrong.toml"
    wrong.write_text(text)
    result = system.rlm("status", "--config", wrong, code=2)
    assert str(wrong) in result.err
    assert WRONG[text] in result.err


def test_check_reports_all_faults_at_once(system):
    wrong = system.directory / "wrong.toml"
    wrong.write_text("[run]\ntarget = 2\n[workers]\nmax = -1\n")
    document = system.json("config", "check", "--config", wrong, code=2)
    assert not document["ok"]
    assert len(document["faults"]) == 2
    assert system.json("config", "check")["ok"]


@pytest.mark.parametrize("env", [{"RLM_WORKERS__MAX": "many"}, {"RLM_WORKERS__MAXX": "1"}])
def test_a_wrong_variable_stops_a_command_with_2(system, env):
    assert next(iter(env)) in system.rlm("status", code=2, env=env).err


def test_init_writes_a_file_that_is_the_defaults(system, defaults):
    system.rlm("init", system.directory / "new")
    written = system.directory / "new" / "rlm.toml"
    tomllib.loads(written.read_text())
    assert (system.directory / "new" / "Procfile").exists()
    settings = system.json("config", "show", "--config", written)["settings"]
    assert {key: entry["value"] for key, entry in settings.items()} == {
        key: entry["value"] for key, entry in defaults.items()
    }
