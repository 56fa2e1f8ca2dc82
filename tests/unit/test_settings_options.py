"""Settings given to a command, `--set KEY=VALUE`."""

from __future__ import annotations

import pytest

from rlm.core.errors import ConfigurationError
from rlm.settings import load_settings
from tests.each import each

FILE = """
[run]
target = 0.6
[budgets.account]
rate_limit = "60/minute"
[types.A]
rate_limit = "30/minute"
endpoints = [
  { name = "a", url = "http://h/a", budget = "account" },
  { name = "b", url = "http://h/b", rate_limit = "10/minute", headers = { X-Key = "env:KEY" } },
]
[types."B.C"]
endpoints = [ { name = "c", url = "http://h/c", rate_limit = "1/minute" } ]
"""


def where(settings, key):
    """Return the origin of a value."""
    return next(shown.where for shown in settings.shown if shown.key == key)


@pytest.fixture
def load(tmp_path):
    """Load a file with these options."""
    path = tmp_path / "rlm.toml"
    path.write_text(FILE)
    return lambda *told, **environ: load_settings(path, {"KEY": "x", **environ}, told)


@pytest.fixture
def faults(load):
    """Return the lines of the error that these options cause."""

    def faults(*told):
        with pytest.raises(ConfigurationError) as caught:
            load(*told)
        return str(caught.value).split("\n")

    return faults


def test_an_option_goes_over_the_environment_and_the_file(load):
    """It wins, and is named as where the value comes from."""
    settings = load("run.target=0.5", RLM_RUN__TARGET="0.9")

    assert settings.run.target == 0.5
    assert where(settings, "run.target") == "--set"
    assert where(settings, "workers.max") == "default"


@each(
    ("told", "look", "expected"),
    [
        ("workers.max=30", lambda settings: settings.workers.max, 30),
        ("run.guard_seconds=1", lambda settings: settings.run.guard_seconds, 1.0),
        ("types.A.rate_limit=60/minute", lambda settings: settings.endpoints["a"].limit.text, "60/minute"),
        ("types.A.share=0.1", lambda settings: settings.event_types[0].share, 0.1),
        ("types.A.endpoints[1].rate_limit=5/minute", lambda settings: settings.endpoints["b"].limit.text, "5/minute"),
        ("types.A.endpoints[0].timeout_seconds=3", lambda settings: settings.endpoints["a"].timeout_seconds, 3.0),
        ('types."B.C".priority=9', lambda settings: settings.types["B.C"].priority, 9),
        ("budgets.account.rate_limit=5/second", lambda settings: settings.budgets["account"].limit.text, "5/second"),
    ],
)
def test_every_single_value_can_be_told(load, told, look, expected):
    """Of a section, of a type, of one of its endpoints, of a budget; numbers become numbers."""
    assert look(load(told)) == expected


def test_the_other_endpoints_of_a_list_stay_as_they_are(load):
    """One value of one endpoint is told, nothing else of the list changes."""
    before, after = load(), load("types.A.endpoints[1].rate_limit=5/minute")

    assert after.endpoints["a"] == before.endpoints["a"]
    assert after.endpoints["b"].headers == before.endpoints["b"].headers
    assert where(after, "types.A.endpoints[1].url").startswith("file ")


@each(
    ("told", "expected"),
    [
        ("run.target", '--set: "***": is not KEY=VALUE, for example'),
        ("run.tarjet=1", "--set: run.tarjet = \"1\": unknown key (did you mean 'target'?); [run] may have "),
        ("types.A.rate_limt=1", "(did you mean 'rate_limit'?); [types.A] may have priority, "),
        ("types.A.max=1", "unknown key (did you mean 'workers.max'?); [types.A] may have priority, share, "),
        ("types.Z.rate_limit=1/second", "no such setting (did you mean 'types.A'?); a key is SECTION.KEY or "),
        ("types.NOBODY.rate_limit=1/second", "no such setting (did you mean 'types.A'?); a key is SECTION.KEY or "),
        ("budgets.acount.rate_limit=1/second", "(did you mean 'budgets.account'?)"),
        ("types.A.endpoints[2].url=http://h", "(did you mean 'types.A.endpoints[1]'?)"),
        ("types.A.endpoints[0].headers=x", 'types.A.endpoints[0].headers = "***": must be a table of texts'),
        ("nothing=1", "no such setting; a key is SECTION.KEY or types.TYPE.KEY, for example"),
        ("run.target=2", "--set: run.target = 2.0: must be a number above 0, at most 1"),
        ("workers.max=many", '--set: workers.max = "many": must be a whole number from 1 to 1000'),
        ("types.A.rate_limit=60", '--set: types.A.rate_limit = "60": must be a limit above zero'),
        ("workers.min=21", "--set: workers.min = 21: must be at most workers.max, which is 20 (default)"),
        (
            "types.A.endpoints[1].url=ftp://h",
            '--set: types.A.endpoints[1].url = "ftp://h": must be http:// or https://',
        ),
    ],
)
def test_a_wrong_one_is_refused_as_in_the_file(faults, told, expected):
    """The message names the option, the key, the value and what is allowed, or the nearest key."""
    (line,) = faults(told)

    assert expected in line


def test_all_that_is_wrong_is_told_at_once(faults):
    """A line each."""
    assert len(faults("x", "run.target=0", "run.guard_seconds=-1", "workers.max=5", "workers.max=6")) == 4


def test_no_secret_is_shown(faults):
    """Neither of a key that there is nor of one that sounds like it."""
    lines = faults("redis.url=http://user:hunter2@host", "redis.password=hunter2")

    assert len(lines) == 2
    assert "hunter2" not in "".join(lines)
