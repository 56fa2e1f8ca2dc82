"""The faults of a configuration are named, all at once: origin, key, value, what is allowed."""

from __future__ import annotations

import re

import pytest

from rlm.core.errors import ConfigurationError
from rlm.settings import load_settings
from tests.each import each

TYPE = '[types.A]\nrate_limit = "1/second"\n'
ENDPOINT = '{ name = "a", url = "http://h/a" }'
ACCOUNT = '[budgets.account]\nrate_limit = "2/second"\n'


@pytest.fixture
def faults(tmp_path, monkeypatch):
    """Load the given text and return the lines of the error, without the file where it is the origin."""
    monkeypatch.chdir(tmp_path)

    def faults(text="", *options, **environ):
        path = tmp_path / "rlm.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ConfigurationError) as caught:
            load_settings(None, environ, options)
        return [line.removeprefix(f"file {path}: ") for line in str(caught.value).split("\n")]

    return faults


def typed(name, endpoints, more=""):
    return f'[types.{name}]\nrate_limit = "1/second"\nendpoints = [ {endpoints} ]\n{more}\n'


@each(
    ("key", "value", "allowed"),
    [
        ("run.window_seconds", "0", "above 0"),
        ("run.window_seconds", "nan", "above 0"),
        ("run.every_seconds", "inf", "at most 1e9"),
        ("run.every_seconds", "true", "a number of seconds"),
        ("run.every_seconds", '"180"', "a number of seconds"),
        ("run.target", "1.01", "above 0, at most 1"),
        ("run.guard_seconds", "-0.1", "from 0"),
        ("run.history", "1.0", "a whole number from 1"),
        ("workers.max", "1001", "from 1 to 1000"),
        ("queue.events", '""', "1 to 200 printable"),
        ("queue.failed", '"wallet_audit_events"', "the three lists must have different names"),
        ("queue.processing", '"rlm:x"', "must not begin with 'rlm:'"),
        ("redis.prefix", '"a:b"', "1 to 50 letters"),
        ("redis.prefix", '"a\\n"', "1 to 50 letters"),
        ("redis.url", '"http://h"', '"embedded" or a URL'),
        ("host.name", '"a b"', "1 to 100 letters"),
        ("archive.directory", '"~/x"', "is not expanded"),
        ("alarm.failed", "-1", "a whole number from 0"),
        ("web.listen", '"8088"', "ADDRESS:PORT"),
        ("web.listen", '"::1:70000"', "ADDRESS:PORT"),
        ("web.hosts", '["h:80"]', "without scheme and port"),
        ("web.hosts", '"h"', "a list of names"),
        ("run.window_seconds", "181", "at most run.every_seconds, which is 180"),
        ("workers.min", "21", "at most workers.max, which is 20"),
    ],
)
def test_wrong_value(faults, key, value, allowed):
    section, _, name = key.partition(".")
    (line,) = faults(f"[{section}]\n{name} = {value}\n")

    assert line.startswith(f"{key} = {value}: ")
    assert allowed in line


@each(
    ("text", "line"),
    [
        ("[run]\ntarget_ = 1", "run.target_: unknown key (did you mean 'target'?); allowed here are window_seconds, "),
        ("[wrokers]\nmax = 1", "wrokers: unknown key (did you mean 'workers'?); allowed here are redis, queue, "),
        (
            f"{TYPE}endpoints = [ {ENDPOINT[:-1]}, timeout = 1 }} ]",
            "types.A.endpoints[0].timeout: unknown key (did you mean 'timeout_seconds'?); allowed here are name, ",
        ),
        (
            f'{TYPE}endpoints = [ {ENDPOINT} ]\nsuccess = {{ fields = "a" }}',
            "types.A.success.fields: unknown key (did you mean 'field'?); allowed here are content_type, field, value",
        ),
        ("run = 3", "run: must be a table of window_seconds, "),
        ("budgets = 3", "budgets: must be tables, [budgets.NAME]"),
        ("[budgets]\nx = 1", "budgets.x: must be a table of rate_limit"),
        ("[types]", "types: must be one or more tables, [types.NAME]"),
        ("[types]\nA = 1", "types.A: must be a table of "),
        (f"{TYPE}endpoints = []", "types.A.endpoints: must be a list of one or more tables"),
        (f"{TYPE}endpoints = {ENDPOINT}", "types.A.endpoints: must be a list of one or more tables"),
        (f"{TYPE}endpoints = ['http://h']", "types.A.endpoints[0]: must be a table of name, url"),
        ("[types.A]", "types.A.endpoints: is missing; give a list"),
        ("[types.A]\nendpoints = [ {} ]", "types.A.endpoints[0].name: is missing; give 1 to 100 letters"),
        (f"[types.A]\nendpoints = [ {ENDPOINT} ]", "types.A.endpoints[0].rate_limit: is missing; give a limit"),
    ],
)
def test_wrong_key_or_shape(faults, text, line):
    assert faults(text)[0].startswith(line)


@each(
    ("url", "problem"),
    [
        ("ftp://h/a", "must be http:// or https:// and a host"),
        ("http://[::1/", "is no URL"),
        ("http://h/${NOT_SET}", "the environment variable NOT_SET is not set or empty"),
        ("http://h/${BAD}", "printable ASCII"),
    ],
)
def test_wrong_endpoint_url(faults, url, problem):
    line, *_ = faults(f'{TYPE}endpoints = [ {{ name = "a", url = "{url}" }} ]', BAD="hunter2 x")

    assert line.startswith("types.A.endpoints[0].url = ")
    assert problem in line
    assert "hunter2" not in line


@each(
    ("second", "key"),
    [
        ('{ name = "a", url = "http://h/b" }', 'url = "http://h/b"'),
        ('{ name = "b", url = "HTTP://H:80/${PART}" }', 'name = "b"'),
        ('{ name = "a", url = "http://h/a", rate_limit = "2/second" }', 'rate_limit = "2/second"'),
        ('{ name = "a", url = "http://h/a", budget = "account" }', 'budget = "account"'),
    ],
)
def test_one_name_one_url_one_limit_one_budget(faults, second, key):
    text = typed("A", ENDPOINT) + typed("B", f'{second}, {{ name = "z", url = "http://h/z", budget = "account" }}')
    problem = "is another at types.A.endpoints[0]; one URL has one name, one limit, one budget"

    assert faults(text + ACCOUNT, PART="a") == [f"types.B.endpoints[0].{key}: {problem}"]


@each(
    ("budget", "budgets", "line"),
    [
        ("account", '[budgets.acount]\nrate_limit = "2/second"', "there is no such budget (did you mean 'acount'?)"),
        ("account", "[budgets.account]", "budgets.account.rate_limit: is missing; give a limit"),
        ("account", '[budgets.account]\nrate_limit = "x"', 'budgets.account.rate_limit = "x": must be a limit above'),
        ("account", f'{ACCOUNT}[budgets."a b"]\nrate_limit = "2/second"', 'budgets."a b": a name has 1 to 100 letters'),
        ("a", '[budgets.a]\nrate_limit = "2/second"', "budgets.a: an endpoint has this name; give one of them another"),
    ],
)
def test_wrong_budget(faults, budget, budgets, line):
    lines = faults(typed("A", ENDPOINT[:-1] + f', budget = "{budget}" }}') + budgets)

    assert any(line in found for found in lines)


@each(
    ("header", "problem"),
    [
        ('Host = "x"', "RLM sets the header Host itself; reserved are "),
        ('IDEMPOTENCY-KEY = "x"', "RLM sets the header IDEMPOTENCY-KEY itself; reserved are "),
        ('"X Y" = "hunter2"', "a header's name has letters"),
        ('X = "hunter2\\r\\nY: z"', "on one line"),
        ('X = "hunter2 €"', "Latin-1"),
        ("X = 5", "must be a table of texts"),
        ('X = "env:A-B"', "the name of an environment variable"),
        ('X = "hunter2", x = "hunter2"', "the same header is here twice"),
        ('X = "env:API_TOKEN"', "the environment variable API_TOKEN is not set or empty; set it"),
        ('X = "env:BAD"', "the value of the environment variable: a header's value is Latin-1 text on one line"),
    ],
)
def test_wrong_header(faults, header, problem):
    (line,) = faults(f"{TYPE}endpoints = [ {ENDPOINT[:-1]}, headers = {{ {header} }} }} ]", BAD="hunter2\n")

    assert line.startswith("types.A.endpoints[0].headers")
    assert problem in line
    assert "hunter2" not in line


@each(
    ("variable", "value", "line"),
    [
        ("RLM_WORKERS__MAX", "many", 'environment RLM_WORKERS__MAX: workers.max = "many": must be a whole number'),
        ("RLM_WORKERS__MAX", "1_0", 'environment RLM_WORKERS__MAX: workers.max = "1_0": must be a whole number'),
        ("RLM_RUN__TARGET", "nan", "environment RLM_RUN__TARGET: run.target = nan: must be a number above 0"),
        ("RLM_WORKER__MAX", "1", "environment RLM_WORKER__MAX: no such setting (did you mean 'RLM_WORKERS__MAX'?)"),
        ("RLM_TYPES__OTHER__PRIORITY", "1", "environment RLM_TYPES__OTHER__PRIORITY: no such setting"),
        ("REDIS_URL", "h:6379", 'environment REDIS_URL: redis.url = "h:6379": must be "embedded" or'),
    ],
)
def test_wrong_variable(faults, variable, value, line):
    (found,) = faults("", **{variable: value})

    assert found.startswith(line)


def test_all_faults_at_once(faults):
    lines = faults(
        f"""
        [run]
        target = 2
        [workers]
        min = 5
        max = 4
        {TYPE}
        endpoints = [
          {ENDPOINT},
          {{ name = "b", url = "x", headers = {{ Host = "h" }} }},
          {{ name = "c", url = "http://h/a" }},
        ]
        """,
        "run.guard_seconds=-1",
        RLM_RUN__HISTORY="none",
        RLM_X__Y="1",
    )

    assert {re.split(r" = |: RLM sets|: no such", line)[0] for line in lines} == {
        "run.target",
        "workers.min",
        "types.A.endpoints[1].headers",
        "types.A.endpoints[2].name",
        "environment RLM_X__Y",
        "environment RLM_RUN__HISTORY: run.history",
        "--set: run.guard_seconds",
    }


@each(
    ("text", "start"),
    [
        (
            "[run]\ntarget 1\n",
            "is not valid TOML in UTF-8: Expected '=' after a key in a key/value pair (at line 2, column 8)",
        ),
        (f"x = {'9' * 5000}", "is not valid TOML in UTF-8: "),
        (f"x = {'[' * 5000}", "is not valid TOML in UTF-8: "),
        (b"[run]\n# \xe9\n", "is not valid TOML in UTF-8: 'utf-8' codec can't decode byte 0xe9 in position 8"),
    ],
)
def test_file_that_is_no_toml(faults, text, start):
    (line,) = faults(text)

    assert line.startswith(start)
