"""Which configurations nobody else is to read: those in which a secret itself stands."""

from __future__ import annotations

import pytest

from rlm.admin.doctor.host import check_file, check_files
from rlm.settings import load_settings
from tests.each import each

TYPE = (
    '[types.T]\nrate_limit = "1/second"\nendpoints = [{{ name = "a", url = "http://h/{path}", headers = {headers} }}]'
)
TOKEN = "0123456789abcdef"


@each(
    ("text", "secret"),
    [
        ('[redis]\nurl = "redis://user:pw@h/0"', True),
        ('[redis]\nurl = "redis://h/0?p%61ssword=pw"', True),
        (f'[web]\ntoken = "{TOKEN}"', True),
        (TYPE.format(path="a?api_key=k", headers="{}"), True),
        (TYPE.format(path="a", headers='{ Cookie = "session=1" }'), True),
        (TYPE.format(path="a", headers='{ Authorization = "env:A", X-Team = "audit" }'), False),
        ('[redis]\nurl = "redis://h/0"\n[web]\ntoken = "env:TOKEN"', False),
    ],
)
def test_a_file_with_a_secret_is_not_for_others_to_read(tmp_path, text, secret):
    """The name of a variable is none, nor is a header that says nothing of the kind by its name."""
    # A configuration that others can read
    config = tmp_path / "rlm.toml"
    config.write_text(text)
    config.chmod(0o604)

    settings = load_settings(config, {"A": "a", "TOKEN": TOKEN})
    found = [one for one in check_files(settings) if str(config) in one.message]

    assert [one.ok for one in found] == ([False] if secret else [])


@pytest.mark.parametrize(("mode", "own", "told"), [(0o640, True, []), (0o640, False, [False]), (0o604, True, [False])])
def test_a_group_counts_where_it_is_not_the_owners_own(tmp_path, monkeypatch, mode, own, told):
    """Many systems make a group for each user, which nobody else is in."""
    # A file with a secret that its group, or everybody, can read
    monkeypatch.setattr("rlm.core.files.is_private_group", lambda _uid, _gid: own)
    config = tmp_path / "rlm.toml"
    config.write_text(f'[web]\ntoken = "{TOKEN}"')
    config.chmod(mode)

    assert [one.ok for one in check_files(load_settings(config, {})) if str(config) in one.message] == told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (TYPE.format(path="a", headers='{ Authorization = "env:UNSET" }'), ""),
        (f'[web]\ntoken = "{TOKEN}"\n[run]\ntarget = 7', "and holds a secret"),
        ('[web]\ntoken = "', "and may hold a secret"),
    ],
)
def test_of_a_configuration_that_cannot_be_used_it_is_told_whether_it_holds_a_secret(tmp_path, text, told):
    """A variable that is not set is none; of what is no TOML nobody knows."""
    config = tmp_path / "rlm.toml"
    config.write_text(text)
    config.chmod(0o644)

    found = [one.message for one in check_file(config)]

    assert len(found) == bool(told)
    assert all(told in one for one in found)
