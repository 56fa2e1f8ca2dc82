"""A fault of the file is reported with the line of its key, wherever TOML allows it."""

from __future__ import annotations

import tomllib

import pytest

from rlm.core.errors import ConfigurationError
from rlm.settings import load_settings
from rlm.settings.document import leaves
from rlm.settings.toml import KeyLines
from tests.each import each

EVERY_FORM = r'''# a comment with [brackets] = 1
title = "a # no comment"  # [x]
'quoted key' = 1
dotted."a.b".c = """
two = 2
[no.table] \""" """
literal = \'\'\'
[nor.this]\'\'\'

[run]   # comment
window_seconds = 60
list = [ 1, # one
  [2, 3], "]", { a = 1, b = [ { c = 2 } ] },
]
[types.A]
endpoints = [
  { name = "a", url = "http://h/a" },

  { name = "b", headers = { X = "}", Y = 'y' } },
]
[[entries]]
x = 1
[[entries]]
y = 2026-11-27 01:02:03Z
[entries.inner]
z = -1.5e3
'''.replace("\\'", "'")


def test_every_key_has_the_line_it_stands_on():
    """Also in lists, tables in braces, lists of tables and behind texts of several lines."""
    found = KeyLines(EVERY_FORM).lines

    lines = EVERY_FORM.splitlines()
    places = [place for place, _ in leaves(tomllib.loads(EVERY_FORM))]
    assert len(places) == 19
    assert set(places) <= set(found)
    for place in places:
        named = [part for part in place if isinstance(part, str)][-1]
        assert named in lines[found[place] - 1] or isinstance(place[-1], int), place
    assert found["run",] == 10
    assert found["run", "list", 1, 1] == 13
    assert found["types", "A", "endpoints", 1, "headers", "Y"] == 19
    assert found["entries", 1, "inner", "z"] == 26


@each("text", ["", "a = 1", "# only", "a = [", "= 1", "[", 'a = "', f"a = {'[' * 5000}"])
def test_what_is_no_toml_has_no_lines_or_some(text):
    """It is not told here, and nothing is raised."""
    assert set(KeyLines(text).lines.values()) <= {1}


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("[workers]\n\nmax = 0\n", ":3: workers.max = 0: "),
        ("\n[workers]\nmaxx = 5\n", ":3: workers.maxx = 5: unknown key (did you mean 'max'?)"),
        ('\n\n[types.A]\nrate_limit = "1/second"\n', ":3: types.A.endpoints: is missing"),
        ("[run]\ntarget 1\n", ":2:8: is not valid TOML: "),
        ("[run]\ntarget = 0.5\n[workers]\nmax = 1\nmax = 2", ":5: workers.max = 2: is already on line 4"),
        ("run.target = 1\nrun.target = 2\n", ":2: run.target: is already on line 1; keep one of the two"),
        ('[web]\ntoken = "env:A"\n"token" = "hunter2"\n', ':3: web.token = "***": is already on line 2'),
        ('[redis]\nurl = "x"\nurl = "redis://:pw@h/0"\n', ':3: redis.url = "redis://:***@h/0": is already on'),
        ('[types.A]\nheaders = { Key = "a", Key = "b" }\n', ":2: types.A.headers.Key: is already on line 2"),
        ('[run]\nx = "pw1"\nx = "pw2"\n', ':3: run.x = "***": is already on line 2'),
        ("[workers]\nmin = 9\nmax = 4\n", ":2: workers.min = 9: must be at most workers.max, which is 4"),
    ],
)
def test_a_fault_begins_with_file_and_line(tmp_path, text, start):
    """As an editor opens it; what is missing has the line of its table."""
    path = tmp_path / "rlm.toml"
    path.write_text(text)

    with pytest.raises(ConfigurationError) as caught:
        load_settings(path, {})

    assert str(caught.value).startswith(f"{path}{start}")


def test_a_fault_of_the_environment_has_no_line(tmp_path):
    """It stands nowhere in the file."""
    path = tmp_path / "rlm.toml"
    path.write_text("[workers]\nmax = 4\n")

    with pytest.raises(ConfigurationError, match=r"^environment RLM_WORKERS__MAX: workers\.max"):
        load_settings(path, {"RLM_WORKERS__MAX": "0"})
