"""The faults of a configuration are named, all at once."""

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


@pytest.fixture
def faults(tmp_path, monkeypatch):
    """Load the given text and return the lines of the error, with FILE for the path of the file and its line."""
    monkeypatch.chdir(tmp_path)

    def faults(text="", **environ):
        path = tmp_path / "rlm.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ConfigurationError) as caught:
            load_settings(environ=environ)
        lines = str(caught.value).replace(str(path), "FILE").split("\n")
        return [re.sub(r"^FILE(:\d+)?: ", "FILE: ", line) for line in lines]

    return faults


@each(
    ("section", "key", "value", "allowed"),
    [
        ("run", "window_seconds", "0", "above 0"),
        ("run", "window_seconds", "nan", "above 0"),
        ("run", "every_seconds", "inf", "at most 1e9"),
        ("run", "every_seconds", "true", "a number of seconds"),
        ("run", "every_seconds", '"180"', "a number of seconds"),
        ("run", "target", "0", "above 0, at most 1"),
        ("run", "target", "1.01", "above 0, at most 1"),
        ("run", "guard_seconds", "-0.1", "from 0"),
        ("run", "guard_seconds", "inf", "from 0 to 1e9"),
        ("run", "history", "0", "a whole number from 1"),
        ("run", "history", "1.0", "a whole number"),
        ("run", "history", "true", "a whole number"),
        ("workers", "min", "-1", "from 0 to 1000"),
        ("workers", "max", "0", "from 1 to 1000"),
        ("workers", "max", "1001", "from 1 to 1000"),
        ("workers", "threads", "0", "from 1 to 1000"),
        ("workers", "threads", "1001", "from 1 to 1000"),
        ("retry", "max_attempts", "0", "from 1"),
        ("retry", "max_runs", "0", "from 1"),
        ("retry", "timeout_seconds", "0.0", "above 0"),
        ("queue", "max_item_bytes", "1023", "from 1024"),
        ("queue", "max_item_bytes", "2048.5", "a whole number"),
        ("queue", "dedupe_seconds", "-1", "from 0"),
        ("queue", "events", '""', "1 to 200 printable"),
        ("queue", "events", '"a\\nb"', "1 to 200 printable"),
        ("queue", "events", "5", "1 to 200 printable"),
        ("queue", "failed", '"wallet_audit_events"', "another list than queue.events"),
        ("queue", "events", '"wallet_audit_failed"', "another list than queue.failed"),
        ("queue", "processing", '"rlm:x"', "must not begin with 'rlm:'"),
        ("redis", "embedded_port", "65536", "from 0 to 65535"),
        ("redis", "prefix", '"a:b"', "1 to 50 letters"),
        ("redis", "prefix", '"a{b}"', "1 to 50 letters"),
        ("redis", "prefix", '"a*"', "1 to 50 letters"),
        ("redis", "prefix", '""', "1 to 50 letters"),
        ("redis", "url", '"http://h"', '"embedded" or a URL with redis://'),
        ("redis", "url", '"redis://"', '"embedded" or a URL with redis://'),
        ("redis", "url", '"redis://h:port"', "the port must be 1 to 65535"),
        ("redis", "url", '"redis://h/2/3"', "the database is a whole number from 0 on"),
        ("redis", "url", '"unix:///p?db=x"', "the database is a whole number from 0 on"),
        ("redis", "url", '"unix://socket"', "unix:///path"),
        ("redis", "url", '"redis.internal"', '"embedded" or a URL'),
    ],
)
def test_wrong_value(faults, section, key, value, allowed):
    """A value that a setting cannot have is named with file, key and what is allowed."""
    (line,) = faults(f"[{section}]\n{key} = {value}\n")

    assert line.startswith(f"FILE: {section}.{key} = {value}: ")
    assert allowed in line


def test_longest_texts(faults):
    """A list's name is at most 200 characters long, a prefix 50; the message cuts what is too long."""
    lines = faults(f'[queue]\nevents = "{"e" * 300}"\n[redis]\nprefix = "{"p" * 51}"\n')

    assert [line.split(" = ")[0] for line in lines] == ["FILE: queue.events", "FILE: redis.prefix"]
    assert "e" * 190 + "...: " in lines[0]


@pytest.mark.parametrize(
    ("text", "environ", "line"),
    [
        (
            "[run]\nwindow_seconds = 181",
            {},
            "FILE: run.window_seconds = 181: must be at most run.every_seconds, which is 180 (default)",
        ),
        (
            "[run]\nevery_seconds = 60",
            {},
            "FILE: run.every_seconds = 60: must be at least run.window_seconds, which is 180 (default)",
        ),
        (
            "[workers]\nmin = 5\nmax = 4",
            {},
            "FILE: workers.min = 5: must be at most workers.max, which is 4 (file FILE)",
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
        (
            "[run]\ntarget_ = 1",
            "run.target_ = 1: unknown key (did you mean 'target'?); [run] may have window_seconds, ",
        ),
        ("[run]\nthreads = 1", "run.threads = 1: unknown key (did you mean 'workers.threads'?); [run] may have "),
        (
            "[wrokers]\nmax = 1",
            "wrokers = {...}: unknown key (did you mean 'workers'?); the file may have redis, queue, ",
        ),
        ("[REDIS]\nprefix = 'x'", "REDIS = {...}: unknown key (did you mean 'redis'?); the file may have redis, "),
        ("[run]\nx = true", "run.x = true: unknown key; [run] may have "),
        ("[redis]\npassword = 1234", 'redis.password = "***": unknown key; [redis] may have url, '),
        ("[redis]\npasword = 1234567", 'redis.pasword = "***": unknown key; [redis] may have url, '),
        ("[redis]\npassword = 'hunter2'", 'redis.password = "***": unknown key; [redis] may have url, '),
        ("[redis]\npasword = 'hunter2'", 'redis.pasword = "***": unknown key; [redis] may have url, '),
        ("[web]\ntokn = 'hunter2'", "web.tokn = \"***\": unknown key (did you mean 'token'?); [web] may have "),
        (
            f'{TYPE}endpoints = [ {ENDPOINT} ]\nrate = "x"',
            "types.A.rate = \"***\": unknown key (did you mean 'rate_limit'?); [types.A] may have ",
        ),
        (
            f"{TYPE}endpoints = [ {ENDPOINT[:-1]}, timeout = 1 }} ]",
            "types.A.endpoints[0].timeout = 1: unknown key (did you mean 'timeout_seconds'?); an endpoint may ",
        ),
    ],
)
def test_unknown_key(faults, text, line):
    """A key that does not exist is named with the one that was probably meant and those there are."""
    (found,) = faults(text)

    assert found.startswith(f"FILE: {line}")


@each(
    ("text", "line"),
    [
        ("run = 3", "run = 3: must be a table, [run]"),
        ("budgets = 3", "budgets = 3: must be a table for each of them, [budgets.NAME]"),
        ("[budgets]\nx = 1", "budgets.x = 1: must be a table, [budgets.x]"),
        (
            "types = 3",
            "types = 3: must be one or more tables, [types.NAME]; leave `types` out for the built-in ones",
        ),
        ("[types]", "types = {}: must be one or more tables, [types.NAME]; leave `types` out for the built-in ones"),
        ("[types]\nA = 1", "types.A = 1: must be a table, [types.A]"),
        (
            f"{TYPE}endpoints = []",
            "types.A.endpoints = []: a type needs at least one endpoint, { name = ..., url = ... }",
        ),
        (
            f"{TYPE}endpoints = {ENDPOINT}",
            "types.A.endpoints = {...}: must be a list of one or more tables, { name = ..., url = ... }, primary first",
        ),
        (f"{TYPE}endpoints = ['http://h']", 'types.A.endpoints[0] = "***": must be { name = "...", url = "..." }'),
    ],
)
def test_wrong_shape(faults, text, line):
    """A table or list where something else stands is named as one."""
    assert faults(text) == [f"FILE: {line}"]


def test_override_does_not_hide_that_a_section_is_no_table(faults):
    """A variable for a section does not make up for a file that has no table there."""
    assert faults("workers = 3", RLM_WORKERS__MAX="4") == ["FILE: workers = 3: must be a table, [workers]"]


def test_what_is_missing(faults):
    """An endpoint's name and URL, a type's endpoints and a limit at one of both have no default."""
    lines = faults("[types.A]\n[types.B]\nendpoints = [ {} ]")

    assert [line.split("; give")[0] for line in lines] == [
        "FILE: types.A.endpoints: is missing",
        "FILE: types.B.rate_limit: is missing",
        "FILE: types.B.endpoints[0].name: is missing",
        "FILE: types.B.endpoints[0].url: is missing",
    ]


@each(
    ("key", "value"),
    [
        ("priority", "101"),
        ("priority", "-1"),
        ("priority", "5.0"),
        ("share", "1.01"),
        ("share", "-0.1"),
        ("share", "nan"),
        ("share", '"0.1"'),
        ("processing_seconds", "0"),
        ("rate_limit", '"x"'),
    ],
)
def test_wrong_value_of_a_type(faults, key, value):
    """The scalars of a type are checked like those of a section."""
    lines = faults(f"[types.A]\n{key} = {value}\nendpoints = [ {ENDPOINT[:-1]}, rate_limit = '1/second' }} ]")

    assert len(lines) == 1
    assert lines[0].startswith(f"FILE: types.A.{key} = {value}: ")


@each("text", ["31", "0/second", "5/fortnight", "", "1/second;", f"1 per {'9' * 400} second"])
def test_wrong_limit(faults, text):
    """A rate limit that is none, or would let nothing through, is refused."""
    (line,) = faults(f"{TYPE}endpoints = [ {ENDPOINT[:-1]}, rate_limit = '{text}' }} ]")

    assert line.startswith("FILE: types.A.endpoints[0].rate_limit = ")


@pytest.mark.parametrize("name", ["a b", "a:b", "ä", "n" * 101, ""])
def test_wrong_names(faults, name):
    """Names of types and endpoints become part of ids and keys: no colon, no space, at most 100 characters."""
    lines = faults(
        f'[types."{name}"]\nrate_limit = "1/second"\nendpoints = [ {{ name = "{name}", url = "http://h" }} ]'
    )

    assert len(lines) == 2
    assert lines[0].startswith(f'FILE: types."{name}": ' if len(name) < 100 else f"FILE: types.{name}: ")
    assert ".endpoints[0].name = " in lines[1]


@each(
    ("url", "problem"),
    [
        ("ftp://h/a", "must be http:// or https:// and a host"),
        ("h/a", "must be http:// or https:// and a host"),
        ("http:///a", "must be http:// or https:// and a host"),
        ("http://h/a b", "printable ASCII"),
        ("http://h/ä", "printable ASCII"),
        ("http://h/a#b", "fragment"),
        ("http://h/a#", "fragment"),
        ("http://h:0/", "the port must be"),
        ("http://h:70000/", "the port must be"),
        ("http://[::1/", "is no URL"),
    ],
)
def test_wrong_endpoint_url(faults, url, problem):
    """An endpoint's URL is http or https with a host, and nothing that would not reach the server as it stands."""
    (line,) = faults(f'{TYPE}endpoints = [ {{ name = "a", url = "{url}" }} ]')

    assert line.startswith("FILE: types.A.endpoints[0].url = ")
    assert problem in line


def test_password_in_an_endpoint_url(faults):
    """A user or password in an endpoint's URL is refused without showing it."""
    (line,) = faults(f'{TYPE}endpoints = [ {{ name = "a", url = "http://u:hunter2@h/" }} ]')

    assert line.startswith('FILE: types.A.endpoints[0].url = "http://u:***@h/": must not hold a user or password')


@pytest.mark.parametrize("scheme", ["redis", "rediss", "reddis"])
def test_password_in_the_redis_url(faults, scheme):
    """A password is masked in every message about the URL, also where it was not percent-encoded."""
    (line,) = faults("", RLM_REDIS__URL=f"{scheme}://:hun/t@er2@h:x")

    assert line.startswith(f'environment RLM_REDIS__URL: redis.url = "{scheme}://:***@h:x": ')


@pytest.mark.parametrize(
    ("second", "line"),
    [
        (
            '{ name = "a", url = "http://h/b" }',
            "types.B.endpoints[0].url = \"http://h/b\": 'a' already stands for http://h/a; one name stands for one URL",
        ),
        (
            '{ name = "b", url = "HTTP://H:80/a" }',
            "types.B.endpoints[0].name = \"b\": its URL already has the name 'a'; one URL has one name",
        ),
        (
            '{ name = "a", url = "http://h/a", rate_limit = "2/second" }',
            "types.B.endpoints[0].rate_limit = \"2/second\": 'a' already has '1/second'; one URL has one limit",
        ),
    ],
)
def test_one_name_one_url_one_limit(faults, second, line):
    """Two readings of a name or a URL are a fault that names both places."""
    text = f'{TYPE}endpoints = [ {ENDPOINT} ]\n[types.B]\nrate_limit = "1/second"\nendpoints = [ {second} ]'

    assert faults(text) == [f"FILE: {line} (see types.A.endpoints[0])"]


def one_type(name, endpoints, more=""):
    return f'[types.{name}]\nrate_limit = "1/second"\nendpoints = [ {endpoints} ]\n{more}\n'


WITH_BUDGET = '{ name = "a", url = "http://h/a", budget = "account" }'
ACCOUNT = '[budgets.account]\nrate_limit = "2/second"\n'


@each(
    ("budgets", "line"),
    [
        (
            '[budgets.acount]\nrate_limit = "2/second"',
            "types.A.endpoints[0].budget = \"account\": there is no such budget (did you mean 'acount'?); add a table ",
        ),
        (
            "",
            'types.A.endpoints[0].budget = "account": there is no such budget; add a table [budgets.account] with its ',
        ),
        ("[budgets.account]", 'budgets.account.rate_limit: is missing; give a limit such as "60/minute"'),
        ('[budgets.account]\nrate_limit = "x"', 'budgets.account.rate_limit = "x": must be a limit above zero'),
        (f"{ACCOUNT}limit = 1", "budgets.account.limit = 1: unknown key (did you mean 'rate_limit'?); "),
        (f'{ACCOUNT}[budgets."a b"]\nrate_limit = "2/second"', 'budgets."a b": a name has 1 to 100 letters'),
    ],
)
def test_wrong_budget(faults, budgets, line):
    """A budget that is not there, or has no limit, is named with what was probably meant."""
    first, *_ = faults(f"{one_type('A', WITH_BUDGET)}{budgets}")

    assert first.startswith(f"FILE: {line}")


def test_budget_that_nobody_names(faults):
    """A budget without an endpoint would limit nothing, so whoever wrote it should know; so in the built-in types."""
    problem = "no endpoint names this budget, so it would limit nothing; name it or take it out"

    for text in (ACCOUNT, one_type("A", ENDPOINT) + ACCOUNT):
        assert faults(text) == [f"FILE: budgets.account = {{...}}: {problem}"]


def test_budget_with_the_name_of_an_endpoint(faults):
    """Windows are told apart by name, so a budget cannot have an endpoint's."""
    text = one_type("A", ENDPOINT[:-1] + ', budget = "a" }') + '[budgets.a]\nrate_limit = "2/second"'

    assert faults(text) == [
        "FILE: budgets.a = {...}: an endpoint has this name; give one of them another (see types.A.endpoints[0])"
    ]


@pytest.mark.parametrize(
    ("first", "second", "line"),
    [
        (WITH_BUDGET, ENDPOINT, "budget: 'a' already has the budget 'account'; one URL has one budget"),
        (ENDPOINT, WITH_BUDGET, "budget = \"account\": 'a' already has none; one URL has one budget"),
    ],
)
def test_one_budget_an_endpoint(faults, first, second, line):
    """An endpoint of several types has the same budget in all of them."""
    text = one_type("A", first) + one_type("B", second) + ACCOUNT

    assert faults(text) == [f"FILE: types.B.endpoints[0].{line} (see types.A.endpoints[0])"]


def test_shares_above_one(faults):
    """More than all calls cannot be given away: the type that is too much is named, with who has what."""
    text = "".join(
        one_type(name, f'{{ name = "{name}", url = "http://h/{name}" }}', f"share = {share}")
        for name, share in [("A", 0.5), ("B", 0.0), ("C", 0.4), ("D", 0.25), ("E", 0.1)]
    )
    problem = "the shares of all types must be at most 1 together; A 0.5 + C 0.4 + D 0.25 is more"

    assert faults(text) == [f"FILE: types.D.share = 0.25: {problem}"]
    assert faults(text, RLM_TYPES__D__SHARE="0.6")[0].startswith(
        "environment RLM_TYPES__D__SHARE: types.D.share = 0.6: "
    )


def test_limit_of_a_shared_endpoint_changed_by_a_variable(faults):
    """Where a variable changes a shared endpoint's limit in one of its types, the variable is named."""
    text = f'{TYPE}endpoints = [ {ENDPOINT} ]\n[types.B]\nrate_limit = "1/second"\nendpoints = [ {ENDPOINT} ]'

    (line,) = faults(text, RLM_TYPES__B__RATE_LIMIT="2/second")

    assert line.startswith("environment RLM_TYPES__B__RATE_LIMIT: types.B.rate_limit = \"2/second\": 'a' already")


def test_endpoint_twice_in_a_type(faults):
    """An endpoint listed twice in one type is a fault: it would count double."""
    (line,) = faults(f"{TYPE}endpoints = [ {ENDPOINT}, {ENDPOINT} ]")

    assert line.endswith(
        'endpoints[1].name = "a": this endpoint is listed twice; once is enough (see types.A.endpoints[0])'
    )


@each(
    "name",
    ["content-type", "IDEMPOTENCY-KEY", "User-Agent", "Content-Length", "Host", "Transfer-Encoding", "Connection"],
)
def test_reserved_header(faults, name):
    """Headers that RLM sets cannot be configured, in any case."""
    (line,) = faults(f'{TYPE}endpoints = [ {ENDPOINT[:-1]}, headers = {{ {name} = "x" }} }} ]')

    assert line.startswith(f"FILE: types.A.endpoints[0].headers.{name}: RLM sets this header itself; reserved are ")


@each(
    ("header", "problem"),
    [
        ('"X Y" = "hunter2"', "a header's name has letters"),
        ('"" = "hunter2"', "a header's name has letters"),
        ('X = "hunter2\\r\\nY: z"', "on one line"),
        ('X = "hunter2\\u0000"', "on one line"),
        ('X = "hunter2 €"', "Latin-1"),
        ("X = 5", "must be a text"),
        ('X = "env:"', "the name of an environment variable"),
        ('X = "env:A-B"', "the name of an environment variable"),
        ('X = "hunter2", x = "hunter2"', "the same header is here twice"),
    ],
)
def test_wrong_header(faults, header, problem):
    """A header that could not be sent as one line is refused, and its value not shown."""
    (line,) = faults(f"{TYPE}endpoints = [ {ENDPOINT[:-1]}, headers = {{ {header} }} }} ]")

    assert line.startswith("FILE: types.A.endpoints[0].headers")
    assert problem in line
    assert "hunter2" not in line


def test_header_variable_that_is_not_set(faults):
    """A header from the environment is a fault when its variable is not there, naming header and variable."""
    text = f'{TYPE}endpoints = [ {ENDPOINT[:-1]}, headers = {{ Authorization = "env:API_TOKEN" }} }} ]'
    key = 'FILE: types.A.endpoints[0].headers.Authorization = "env:API_TOKEN"'

    assert faults(text) == [
        f"{key}: header Authorization: the environment variable API_TOKEN is not set or empty; set it"
    ]
    (line,) = faults(text, API_TOKEN="hunter2\n")
    assert line.startswith(f"{key}: header Authorization: the value of the environment variable API_TOKEN: ")
    assert "hunter2" not in line


@each(
    ("variable", "value", "line"),
    [
        ("RLM_WORKERS__MAX", "many", 'environment RLM_WORKERS__MAX: workers.max = "many": must be a whole number'),
        ("RLM_WORKERS__MAX", "", 'environment RLM_WORKERS__MAX: workers.max = "": must be a whole number'),
        ("RLM_RUN__TARGET", "nan", "environment RLM_RUN__TARGET: run.target = nan: must be a number above 0"),
        (
            "RLM_WORKER__MAX",
            "1",
            "environment: RLM_WORKER__MAX = \"1\": no such setting (did you mean 'RLM_WORKERS__MAX'?)",
        ),
        ("RLM_REDIS__PASSWORD", "hunter2", 'environment: RLM_REDIS__PASSWORD = "***": no such setting'),
        ("RLM_TYPES__OTHER__PRIORITY", "1", 'environment: RLM_TYPES__OTHER__PRIORITY = "1": no such setting'),
        (
            "RLM_TYPES__A__ENDPOINTS",
            "[]",
            'environment: RLM_TYPES__A__ENDPOINTS = "***": tables of types are set in the file only',
        ),
        ("REDIS_URL", "h:6379", 'environment REDIS_URL: redis.url = "h:6379": must be "embedded" or'),
        ("RLM_LOG", "LOUD", 'environment: RLM_LOG = "LOUD": must be DEBUG, INFO, WARNING or ERROR'),
        ("RLM_LOG_FORMAT", "xml", 'environment: RLM_LOG_FORMAT = "xml": must be auto, text or json'),
        ("SENTRY_DSN", "https://hunter2", 'environment: SENTRY_DSN = "***": must be a Sentry DSN'),
    ],
)
def test_wrong_variable(faults, variable, value, line):
    """A fault in the environment names the variable."""
    (found,) = faults("", **{variable: value})

    assert found.startswith(line)


@each("level", ["WARN", "critical", "Fatal", "NOTSET", ""])
def test_log_lines_have_every_level_that_python_names(tmp_path, monkeypatch, level):
    """An installation that was started with another one than the four stayed down after an upgrade."""
    monkeypatch.chdir(tmp_path)

    assert load_settings(environ={"RLM_LOG": level})


def test_variable_that_fits_two_types(faults):
    """Types that differ in case alone cannot be told apart by a variable."""
    text = '[types.{0}]\nrate_limit = "1/second"\nendpoints = [ {{ name = "{0}", url = "http://h/{0}" }} ]\n'

    (line,) = faults(text.format("ab") + text.format("AB"), RLM_TYPES__AB__PRIORITY="1")

    assert line == 'environment: RLM_TYPES__AB__PRIORITY = "1": may mean ab or AB; set it in the file'


def test_all_faults_at_once(faults):
    """Faults of file and environment, of single values and of several together, come in one error, a line each."""
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
        RLM_RUN__HISTORY="none",
        RLM_X__Y="1",
    )

    assert [re.split(" = |: RLM sets", line)[0] for line in lines] == [
        "FILE: run.target",
        "FILE: workers.min",
        "FILE: types.A.endpoints[1].url",
        "FILE: types.A.endpoints[1].headers.Host",
        "FILE: types.A.endpoints[2].name",
        "environment: RLM_X__Y",
        "environment RLM_RUN__HISTORY: run.history",
    ]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("127.0.0.1:18990/user2", "127.0.0.1:18990/user2"),
        ("api.example.com:8080/v1/users", "api.example.com:8080/v1/users"),
        ("api.example.com/550e8400-e29b-41d4-a716-446655440000/v1", "api.example.com/***/v1"),
        ("localhost:80/x?key=hunter2", "***"),
        ("user:hunter2@127.0.0.1/x", "***"),
    ],
)
def test_an_address_without_a_scheme_is_shown(faults, url, shown):
    """So that one sees what lacks; not what may hold a secret."""
    (line,) = faults(f'{TYPE}endpoints = [ {{ name = "a", url = "{url}" }} ]')

    assert line.startswith(f'FILE: types.A.endpoints[0].url = "{shown}": ')


@each(
    ("text", "start"),
    [
        ("[run]\ntarget 1\n", "FILE:2:8: is not valid TOML: "),
        ("[run]\ntarget = ", "FILE:2:10: is not valid TOML: "),
        ("x = [\n  1,", "FILE:2:5: is not valid TOML: "),
        ("[[x]]\na = 1\n[[x]]\na = 1\nb =", "FILE:5:4: is not valid TOML: "),
        ("[run]\ntarget = 1\n[run]\n", "FILE:3:5: is not valid TOML: "),
        (f"x = {'9' * 5000}", "FILE: is not valid TOML: "),
        (f"x = {'[' * 5000}", "FILE: is not valid TOML: "),
        (b"[run]\n# \xe9\n", "file FILE: is not UTF-8 (byte 8)"),
    ],
)
def test_file_that_is_no_toml(faults, text, start):
    """A file that cannot be parsed is named with line and column where there is one."""
    (line,) = faults(text)

    assert line.startswith(start)


def test_error_carries_no_secret_along(tmp_path):
    """The error holds its message alone: no error that quotes values is chained to it."""
    path = tmp_path / "rlm.toml"
    path.write_text('[redis]\nurl = "x://:hunter2@h"')

    with pytest.raises(ConfigurationError) as caught:
        load_settings(path, {})

    assert caught.value.__context__ is None


def test_file_that_cannot_be_read(tmp_path):
    """A directory in place of the file is named as unreadable."""
    with pytest.raises(ConfigurationError, match=f"^file {re.escape(str(tmp_path))}: cannot be read: "):
        load_settings(tmp_path, {})


@pytest.mark.parametrize(
    ("path", "environ", "named_by"),
    [(Path("/nowhere/x.toml"), {}, "--config"), (None, {"RLM_CONFIG": "/nowhere/x.toml"}, "environment RLM_CONFIG")],
)
def test_named_file_that_does_not_exist(path, environ, named_by):
    """A file that was asked for has to exist."""
    with pytest.raises(ConfigurationError, match=f"^{named_by}: there is no file '/nowhere/x.toml'"):
        load_settings(path, environ)
