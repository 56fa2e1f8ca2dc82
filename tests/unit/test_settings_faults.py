"""The faults of a configuration are named, all at once: origin, key, value, what is allowed."""

from __future__ import annotations

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


def typed(name, endpoints):
    return f'[types.{name}]\nrate_limit = "1/second"\nendpoints = [ {endpoints} ]\n'


@each(
    ("key", "value", "allowed"),
    [
        ("run.window_seconds", "0", "above 0"),
        ("run.window_seconds", "nan", "above 0"),
        ("run.every_seconds", "inf", "at most 1e9"),
        ("run.every_seconds", "true", "a number of seconds"),
        ("run.every_seconds", '"180"', "a number of seconds"),
        ("run.history", "1.0", "a whole number from 1"),
        ("workers.max", "1001", "from 1 to 1000"),
        ("queue.events", '""', "1 to 200 printable"),
        ("redis.prefix", '"a\\n"', "1 to 50 letters"),
        ("redis.url", '"http://h"', '"embedded" or a URL'),
        ("host.name", '"a b"', "1 to 100 letters"),
        ("archive.directory", '"~/x"', "is not expanded"),
        *(("web.listen", f'"{address}"', "ADDRESS:PORT") for address in ("8088", "::1:70000", "h:65536", "h:")),
        ("web.token", '"env:A-B-of-more-than-16"', "16 to 200 visible ASCII"),
        *(("web.hosts", f'["{host}"]', "without port") for host in ("h:80", "http://h", "*", "")),
        ("web.hosts", '"h"', "a list of names"),
    ],
)
def test_wrong_value(faults, key, value, allowed):
    section, _, name = key.partition(".")
    (line,) = faults(f"[{section}]\n{name} = {value}\n")

    assert line.lower().startswith(f"{key} = {value}".lower())
    assert allowed in line


@each(
    ("text", "line"),
    [
        ('[queue]\nfailed = "wallet_audit_events"', "queue.failed: the three lists must have different names"),
        ('[queue]\nprocessing = "rlm:x"', "queue.processing: rlm:x must not begin with rlm:, "),
        ("[run]\nwindow_seconds = 181", "run.window_seconds = 181: must be at most every_seconds, which is 180"),
        ("[run]\ntarget_ = 1", "run.target_: unknown key (did you mean 'target'?); allowed here are window_seconds, "),
        ("[wrokers]\nmax = 1", "wrokers: unknown key (did you mean 'workers'?); allowed here are redis, queue, "),
        (
            f"{TYPE}endpoints = [ {ENDPOINT[:-1]}, timeout = 1 }} ]",
            "types.A.endpoints[0].timeout: unknown key (did you mean 'timeout_seconds'?); allowed here are name, ",
        ),
        ("run = 3", "run = 3: must be a table of window_seconds, "),
        (f"{TYPE}success.value = nan", "types.A.success.value = NaN: must be a text, a number"),
        ("[types]", "types: must be one or more tables, [types.NAME]"),
        (f"{TYPE}endpoints = []", "types.A.endpoints: must be a list of one or more tables"),
        (f"{TYPE}endpoints = ['http://h']", "types.A.endpoints[0]: must be a table of name, url"),
        ("[types.A]", "types.A.endpoints: is missing; give a list"),
        ("[types.A]\nendpoints = [ {} ]", "types.A.endpoints[0].name: is missing; give 1 to 100 letters"),
        (f"[types.A]\nendpoints = [ {ENDPOINT} ]", "types.A.rate_limit: is missing; give a limit"),
        (typed("A", f"{ENDPOINT}, {ENDPOINT}"), "types.A.endpoints: has the name a twice"),
        (typed("A", ENDPOINT.replace("http", "ftp")), 'types.A.endpoints[0].url = "ftp://h/a": must be http://'),
        (typed("A", ENDPOINT.replace("/a", "/${NO}")), 'types.A.endpoints[0].url = "http://h/${NO}": the environment'),
        (typed("A", ENDPOINT.replace("/a", "/${BAD}")), 'types.A.endpoints[0].url = "http://h/${BAD}": a URL is'),
        (f"{typed('A', ENDPOINT)}share = 0.6\n{typed('B', ENDPOINT)}share = 0.6", "types.B.share: the shares of all"),
        ("[run]\ntarget 1\n", "is not valid TOML in UTF-8: Expected '='"),
        (f"x = {'[' * 5000}", "is not valid TOML in UTF-8: "),
        (b"[run]\n# \xe9\n", "is not valid TOML in UTF-8: 'utf-8' codec can't decode byte 0xe9"),
    ],
)
def test_wrong_file(faults, text, line):
    found = faults(text, BAD="hunter2 x")[0]

    assert found.startswith(line)
    assert "hunter2" not in found


@each(
    "second",
    [
        '{ name = "a", url = "http://h/b" }',
        '{ name = "b", url = "HTTP://H:80/${PART}" }',
        '{ name = "a", url = "http://h/${PART}" }',
        '{ name = "a", url = "http://h/a", rate_limit = "2/second" }',
        '{ name = "a", url = "http://h/a", budget = "account" }',
    ],
)
def test_one_name_one_url_one_limit_one_budget(faults, second):
    text = typed("A", ENDPOINT) + typed("B", f'{second}, {{ name = "z", url = "http://h/z", budget = "account" }}')

    (line,) = faults(text + ACCOUNT, PART="a")

    assert line.startswith("types.B.endpoints: ")
    assert line.endswith("; one URL has one name, one limit, one budget")


@each(
    ("budget", "budgets", "line"),
    [
        ("account", '[budgets.acount]\nrate_limit = "2/second"', "budgets.account: no right table, but the budget"),
        ("account", "[budgets.account]", "budgets.account.rate_limit: is missing; give a limit"),
        ("account", '[budgets.account]\nrate_limit = "x"', "budgets.account.rate_limit = \"x\": 'x' is not a limit"),
        ("account", f'{ACCOUNT}[budgets."a b"]\nrate_limit = "2/second"', 'budgets."a b": a name has 1 to 100 letters'),
        ("a", '[budgets.a]\nrate_limit = "2/second"', "budgets.a: an endpoint has this name; give one of them another"),
    ],
)
def test_wrong_budget(faults, budget, budgets, line):
    lines = faults(typed("A", ENDPOINT[:-1] + f', budget = "{budget}" }}') + budgets)

    assert any(found.startswith(line) for found in lines)


@each(
    ("header", "problem"),
    [
        ('Host = "x"', "RLM sets the header Host itself; reserved are "),
        ('IDEMPOTENCY-KEY = "x"', "RLM sets the header IDEMPOTENCY-KEY itself; reserved are "),
        ('"X Y" = "hunter2"', "a header's name has letters"),
        ('X = "hunter2\\r\\nY: z"', "on one line"),
        ('X = "hunter2 €"', "Latin-1"),
        ("X = 5", "must be a table of texts"),
        ('X = "env:"', "`env:` names no environment variable; write env:NAME"),
        ('X = "hunter2", x = "hunter2"', "the same header is here twice"),
        ('X = "env:API_TOKEN"', "the environment variable API_TOKEN is not set or empty; set it"),
        ('X = "env:BAD"', "a header is Latin-1 text on one line"),
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
        ("RLM_WORKERS__MAX", "1_0", 'environment RLM_WORKERS__MAX: workers.max = "1_0": must be a whole number'),
        ("RLM_RUN__TARGET", "nan", "environment RLM_RUN__TARGET: run.target = NaN: must be a number above 0"),
        ("RLM_RUN__EVERY_SECONDS", "30", "default: run.window_seconds = 180.0: must be at most every_seconds"),
        ("RLM_LOG", "LOUD", 'environment RLM_LOG = "LOUD": must be DEBUG, '),
        ("SENTRY_DSN", "https://hunter2@h:65536/1", 'environment SENTRY_DSN = "***": must be https://KEY@HOST/PROJECT'),
        ("RLM_WORKER__MAX", "1", "environment RLM_WORKER__MAX: no such setting (did you mean 'RLM_WORKERS__MAX'?)"),
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

    assert [line.partition(" = ")[0].partition(": ")[0] for line in lines] == [
        "run.target",
        "--set",
        "environment RLM_RUN__HISTORY",
        "workers.min",
        "types.A.endpoints[1].url",
        "types.A.endpoints[1].headers",
        "environment RLM_X__Y",
        "types.A.endpoints",
    ]
