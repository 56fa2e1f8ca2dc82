"""The faults of a configuration are named, all at once: origin, key, value, what is allowed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rlm.core.errors import ConfigurationError
from rlm.settings import load_settings
from tests.each import each

TYPE = """
[types.A]
rate_limit = "1/second"
"""
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
    ("section", "key", "value", "allowed"),
    [
        ("run", "window_seconds", "0", "above 0"),
        ("run", "window_seconds", "nan", "above 0"),
        ("run", "every_seconds", "inf", "at most 1e9"),
        ("run", "every_seconds", "true", "a number of seconds"),
        ("run", "every_seconds", '"180"', "a number of seconds"),
        ("run", "target", "1.01", "above 0, at most 1"),
        ("run", "guard_seconds", "-0.1", "from 0"),
        ("run", "history", "0", "a whole number from 1"),
        ("run", "history", "1.0", "a whole number"),
        ("run", "history", "true", "a whole number"),
        ("workers", "max", "1001", "from 1 to 1000"),
        ("workers", "threads", "0", "from 1 to 1000"),
        ("retry", "max_attempts", "0", "from 1"),
        ("queue", "max_item_bytes", "1023", "from 1024"),
        ("queue", "events", '""', "1 to 200 printable"),
        ("queue", "events", "5", "1 to 200 printable"),
        ("queue", "failed", '"wallet_audit_events"', "another list than queue.events"),
        ("queue", "processing", '"rlm:x"', "must not begin with 'rlm:'"),
        ("redis", "prefix", '"a:b"', "1 to 50 letters"),
        ("redis", "prefix", '"a\\n"', "1 to 50 letters"),
        ("redis", "url", '"http://h"', '"embedded" or a URL with redis://'),
        ("redis", "url", '"redis://h:port"', "the port must be 1 to 65535"),
        ("redis", "url", '"redis://h/2/3"', "the database is a whole number from 0 on"),
        ("redis", "url", '"unix://socket"', "unix:///path"),
        ("host", "name", '"a b"', "1 to 100 letters"),
        ("archive", "directory", '"~/x"', "write it out"),
        ("alarm", "failed", "-1", "a whole number from 0"),
        ("web", "listen", '"8088"', "ADDRESS:PORT"),
        ("web", "listen", '"::1:70000"', "ADDRESS:PORT"),
        ("web", "hosts", '["h:80"]', "give the host without port"),
        ("web", "hosts", '"h"', "a list of names"),
    ],
)
def test_wrong_value(faults, section, key, value, allowed):
    """A value that a setting cannot have is named with file, key and what is allowed."""
    (line,) = faults(f"[{section}]\n{key} = {value}\n")

    assert line.startswith(f"{section}.{key} = {value}: ")
    assert allowed in line


def test_long_text(faults):
    """The message cuts what is too long."""
    (line,) = faults(f'[queue]\nevents = "{"e" * 300}"\n')

    assert "e" * 190 + "...: " in line


@each(
    ("text", "environ", "line"),
    [
        (
            "[run]\nwindow_seconds = 181",
            {},
            "run.window_seconds = 181: must be at most run.every_seconds, which is 180 (default)",
        ),
        (
            "[run]\nevery_seconds = 60",
            {},
            "run.every_seconds = 60: must be at least run.window_seconds, which is 180 (default)",
        ),
        (
            "",
            {"RLM_WORKERS__MIN": "21"},
            "environment RLM_WORKERS__MIN: workers.min = 21: must be at most workers.max, which is 20 (default)",
        ),
    ],
)
def test_values_that_do_not_go_together(faults, text, environ, line):
    """Of two settings that contradict each other the one that was set is named, with the other."""
    assert faults(text, **environ) == [line]


@each(
    ("text", "line"),
    [
        ("[run]\ntarget_ = 1", "run.target_: unknown key (did you mean 'target'?); allowed here are window_seconds, "),
        ("[run]\nthreads = 1", "run.threads: unknown key (did you mean 'workers.threads'?); allowed here are "),
        ("[wrokers]\nmax = 1", "wrokers: unknown key (did you mean 'workers'?); allowed here are redis, queue, "),
        ("[run]\nx = true", "run.x: unknown key; allowed here are "),
        (
            f"{TYPE}endpoints = [ {ENDPOINT[:-1]}, timeout = 1 }} ]",
            "types.A.endpoints[0].timeout: unknown key (did you mean 'timeout_seconds'?); allowed here are name, ",
        ),
        (
            f'{TYPE}endpoints = [ {ENDPOINT} ]\nsuccess = {{ fields = "a" }}',
            "types.A.success.fields: unknown key (did you mean 'field'?); allowed here are content_type, field, value",
        ),
    ],
)
def test_unknown_key(faults, text, line):
    """A key that does not exist is named with the one that was probably meant and those there are."""
    (found,) = faults(text)

    assert found.startswith(line)


@each(
    ("text", "line"),
    [
        ("run = 3", "run: must be a table, [run]"),
        ("budgets = 3", "budgets: must be a table for each of them, [budgets.NAME]"),
        ("[budgets]\nx = 1", "budgets.x: must be a table, [budgets.x]"),
        ("[types]", "types: must be one or more tables, [types.NAME]; leave `types` out for the built-in ones"),
        ("[types]\nA = 1", "types.A: must be a table, [types.A]"),
        (
            f"{TYPE}endpoints = []",
            "types.A.endpoints = []: a type needs at least one endpoint, { name = ..., url = ... }",
        ),
        (
            f"{TYPE}endpoints = {ENDPOINT}",
            "types.A.endpoints = {...}: must be a list of one or more tables, { name = ..., url = ... }, primary first",
        ),
        (f"{TYPE}endpoints = ['http://h']", 'types.A.endpoints[0]: must be { name = "...", url = "..." }'),
    ],
)
def test_wrong_shape(faults, text, line):
    """A table or list where something else stands is named as one."""
    assert faults(text) == [line]


def test_what_is_missing(faults):
    """An endpoint's name and URL, a type's endpoints and a limit at one of both have no default."""
    lines = faults("[types.A]\n[types.B]\nendpoints = [ {} ]")

    assert [line.split("; give")[0] for line in lines] == [
        "types.A.endpoints: is missing",
        "types.B.endpoints[0].name: is missing",
        "types.B.endpoints[0].url: is missing",
        "types.B.rate_limit: is missing",
    ]


@each(
    ("key", "value"),
    [
        ("priority", "101"),
        ("priority", "5.0"),
        ("share", "1.01"),
        ("share", "nan"),
        ("processing_seconds", "0"),
        *(("rate_limit", f'"{text}"') for text in ("31", "0/second", "5/fortnight", "", "1/second;")),
        ("rate_limit", f'"1 per {"9" * 50} second"'),
    ],
)
def test_wrong_value_of_a_type(faults, key, value):
    """The values of a type are checked like those of a section."""
    (line,) = faults(f"[types.A]\n{key} = {value}\nendpoints = [ {ENDPOINT[:-1]}, rate_limit = '1/second' }} ]")

    assert line.startswith(f"types.A.{key} = {value}: ")


@each("name", ["a b", "a:b", "ä", "n" * 101, ""])
def test_wrong_names(faults, name):
    """Names of types and endpoints become part of ids and keys: no colon, no space, at most 100 characters."""
    lines = faults(
        f'[types."{name}"]\nrate_limit = "1/second"\nendpoints = [ {{ name = "{name}", url = "http://h" }} ]'
    )

    assert len(lines) == 2
    assert all("a name has 1 to 100 letters" in line for line in lines)


@each(
    ("url", "problem"),
    [
        ("ftp://h/a", "must be http:// or https:// and a host"),
        ("h/a", "must be http:// or https:// and a host"),
        ("http://h/a b", "printable ASCII"),
        ("http://h/a#b", "fragment"),
        ("http://h:0/", "the port must be"),
        ("http://[::1/", "is no URL"),
        ("http://user@h/", "must not hold a user or password"),
        ("http://h/${NOT_SET}", "the environment variable NOT_SET is not set or empty"),
        ("http://h/${BAD}", "printable ASCII"),
    ],
)
def test_wrong_endpoint_url(faults, url, problem):
    """An endpoint's URL is http or https with a host, and nothing that would not reach the server as it stands."""
    line, *_ = faults(f'{TYPE}endpoints = [ {{ name = "a", url = "{url}" }} ]', BAD="hunter2 x")

    assert line.startswith("types.A.endpoints[0].url = ")
    assert problem in line
    assert "hunter2" not in line


@each(
    ("second", "line"),
    [
        (
            '{ name = "a", url = "http://h/b" }',
            "types.B.endpoints[0].url = \"http://h/b\": 'a' already stands for http://h/a; one name stands for one URL",
        ),
        (
            '{ name = "b", url = "HTTP://H:80/${PART}" }',
            "types.B.endpoints[0].name = \"b\": its URL already has the name 'a'; one URL has one name",
        ),
        (
            '{ name = "a", url = "http://h/a", rate_limit = "2/second" }',
            "types.B.endpoints[0].rate_limit = \"2/second\": 'a' already has '1/second'; one URL has one limit",
        ),
        (
            '{ name = "a", url = "http://h/a", budget = "account" }',
            "types.B.endpoints[0].budget = \"account\": 'a' already has none; one URL has one budget",
        ),
    ],
)
def test_one_name_one_url_one_limit_one_budget(faults, second, line):
    """Two readings of a name or a URL are a fault that names both places."""
    text = typed("A", ENDPOINT) + typed("B", f'{second}, {{ name = "z", url = "http://h/z", budget = "account" }}')

    assert faults(text + ACCOUNT, PART="a") == [f"{line} (see types.A.endpoints[0])"]


@each(
    ("budget", "budgets", "line"),
    [
        ("account", '[budgets.acount]\nrate_limit = "2/second"', "there is no such budget (did you mean 'acount'?)"),
        ("account", "[budgets.account]", 'budgets.account.rate_limit: is missing; give a limit such as "60/minute"'),
        ("account", '[budgets.account]\nrate_limit = "x"', 'budgets.account.rate_limit = "x": must be a limit above'),
        ("account", f'{ACCOUNT}[budgets."a b"]\nrate_limit = "2/second"', 'budgets."a b": a name has 1 to 100 letters'),
        ("a", '[budgets.a]\nrate_limit = "2/second"', "budgets.a: an endpoint has this name; give one of them another"),
        ("account", f'{ACCOUNT}[budgets.b]\nrate_limit = "2/second"', "budgets.b: no endpoint names this budget"),
    ],
)
def test_wrong_budget(faults, budget, budgets, line):
    """A budget has a limit, a name of its own, and endpoints."""
    lines = faults(typed("A", ENDPOINT[:-1] + f', budget = "{budget}" }}') + budgets)

    assert any(line in found for found in lines)


def test_shares_above_one(faults):
    """More than all calls cannot be given away: the type that is too much is named, with who has what."""
    text = "".join(
        typed(name, f'{{ name = "{name}", url = "http://h/{name}" }}', f"share = {share}")
        for name, share in [("A", 0.5), ("B", 0.0), ("C", 0.4), ("D", 0.25), ("E", 0.1)]
    )
    problem = "the shares of all types must be at most 1 together; A 0.5 + C 0.4 + D 0.25 is more"

    assert faults(text) == [f"types.D.share = 0.25: {problem}"]


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
        ('X = "env:BAD"', "the value of the environment variable BAD: a header's value is Latin-1 text on one line"),
    ],
)
def test_wrong_header(faults, header, problem):
    """A header that could not be sent as one line is refused, and its value not shown."""
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
        (
            "RLM_WORKER__MAX",
            "1",
            "environment RLM_WORKER__MAX: no such setting (did you mean 'RLM_WORKERS__MAX'?)",
        ),
        ("RLM_TYPES__OTHER__PRIORITY", "1", "environment RLM_TYPES__OTHER__PRIORITY: no such setting"),
        ("REDIS_URL", "h:6379", 'environment REDIS_URL: redis.url = "h:6379": must be "embedded" or'),
        ("RLM_LOG", "LOUD", 'environment RLM_LOG = "LOUD": must be DEBUG, INFO, WARNING or ERROR'),
        ("RLM_LOG_FORMAT", "xml", 'environment RLM_LOG_FORMAT = "xml": must be auto, text or json'),
        ("SENTRY_DSN", "https://hunter2", "environment SENTRY_DSN: must be a Sentry DSN"),
    ],
)
def test_wrong_variable(faults, variable, value, line):
    """A fault in the environment names the variable."""
    (found,) = faults("", **{variable: value})

    assert found.startswith(line)


@each(
    ("option", "line"),
    [
        ("x", "--set: x: is not KEY=VALUE, for example run.target=0.5"),
        ("rnu.target=1", "--set: rnu.target: no such setting (did you mean 'run'?)"),
        ("run.targt=1", "--set: run.targt: unknown key (did you mean 'target'?)"),
        ("run.target=2", "--set: run.target = 2.0: must be a number above 0, at most 1"),
        (
            "types.A.endpoints[0].url=ftp://h",
            '--set: types.A.endpoints[0].url = "ftp://h": must be http:// or https://',
        ),
        ("types.A.endpoints[1].url=http://h", "--set: types.A.endpoints[1].url: no such setting"),
    ],
)
def test_wrong_option(faults, option, line):
    """A fault in `--set` names the option and the key."""
    (found,) = faults(typed("A", ENDPOINT), option)

    assert found.startswith(line)


def test_all_faults_at_once(faults):
    """Faults of file, environment and options, of single values and of several together, come in one error."""
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
        "run.guard_seconds=-2",
        RLM_RUN__HISTORY="none",
        RLM_X__Y="1",
    )

    assert {re.split(r" = |: RLM sets|: no such|: is given", line)[0] for line in lines} == {
        "run.target",
        "workers.min",
        "types.A.endpoints[1].url",
        "types.A.endpoints[1].headers",
        "types.A.endpoints[2].name",
        "environment RLM_X__Y",
        "environment RLM_RUN__HISTORY: run.history",
        "--set: run.guard_seconds",
    }


@each(
    ("text", "start"),
    [
        ("[run]\ntarget 1\n", "is not valid TOML: Expected '=' after a key in a key/value pair (at line 2, column 8)"),
        ("[run]\ntarget = 1\ntarget = 2\n", "is not valid TOML: Cannot overwrite a value (at line 3, "),
        (f"x = {'9' * 5000}", "is not valid TOML: "),
        (f"x = {'[' * 5000}", "is not valid TOML: "),
        (b"[run]\n# \xe9\n", "is not UTF-8 (byte 8)"),
    ],
)
def test_file_that_is_no_toml(faults, text, start):
    """A file that cannot be parsed is named, with line and column where there is one."""
    (line,) = faults(text)

    assert line.startswith(start)


@pytest.mark.parametrize(
    ("path", "environ", "named_by"),
    [(Path("/nowhere/x.toml"), {}, "--config"), (None, {"RLM_CONFIG": "/nowhere/x.toml"}, "environment RLM_CONFIG")],
)
def test_named_file_that_does_not_exist(path, environ, named_by):
    """A file that was asked for has to exist."""
    with pytest.raises(ConfigurationError, match=f"^{named_by}: there is no file '/nowhere/x.toml'"):
        load_settings(path, environ)
