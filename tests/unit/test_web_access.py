"""Who may listen where and read what."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from rlm.cli.group import rlm
from rlm.core.errors import ConfigurationError
from rlm.settings import load_settings
from rlm.web.access import says_token
from rlm.web.app import read_token
from rlm.web.serve import bind
from tests.each import each

TOKEN = "a-token-of-24-characters"


@each(
    ("header", "expected"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer  {TOKEN} ", True),
        (None, False),
        ("", False),
        (TOKEN, False),
        (f"Basic {TOKEN}", False),
        (f"Bearer {TOKEN}x", False),
        (f"Bearer {TOKEN[:-1]}", False),
        ("Bearer ", False),
        ("Bearer tök€n\udcff", False),
    ],
)
def test_only_who_says_the_token_may_read(header, expected):
    """The scheme is in any case, the token is not."""
    assert says_token(header, TOKEN) is expected


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
def test_off_the_loopback_interface_it_does_not_start_without_a_token(host, tmp_path):
    """Exit code 2, before anything is bound or Redis is asked, and the message says what to set."""
    file = tmp_path / "rlm.toml"
    file.write_text(f'[redis]\nurl = "unix:///nobody/is/here"\n[web]\nlisten = "{host}:0"\n')

    done = CliRunner().invoke(rlm, ["web", "--config", str(file)])

    assert done.exit_code == 2
    assert "web.token" in done.output


def test_with_a_token_it_listens_anywhere():
    """Whoever asks has to say it."""
    with bind("0.0.0.0", 0, SimpleNamespace(graceful=False), has_token=True) as bound:
        assert bound.getsockname()[0] == "0.0.0.0"


def test_the_token_may_stand_in_a_variable():
    """Its name is configured, its value is read where `rlm web` runs."""
    assert read_token("env:T", {"T": TOKEN}) == TOKEN
    assert read_token(TOKEN, {}) == TOKEN
    assert read_token("", {}) == ""


@pytest.mark.parametrize("environ", [{}, {"T": ""}, {"T": "short"}, {"T": "with a blank in the middle"}])
def test_a_variable_without_a_good_token_is_a_fault_that_names_it(environ):
    """And not what it holds."""
    with pytest.raises(ConfigurationError, match=r"web\.token.*\bT\b") as raised:
        read_token("env:T", environ)

    assert not environ.get("T") or environ["T"] not in str(raised.value)


@pytest.mark.parametrize("token", ["short", "x" * 201, "with a blank in the middle", "ümlaute-sind-nicht-dabei"])
def test_a_token_that_is_none_is_a_fault_of_the_configuration(token, tmp_path):
    """The message says what one looks like, and not what was there."""
    file = tmp_path / "rlm.toml"
    file.write_text(f'[web]\ntoken = "{token}"\n', encoding="utf-8")

    with pytest.raises(ConfigurationError, match=r"web\.token = .*16 to 200") as raised:
        load_settings(file, {})

    assert token not in str(raised.value)


def test_a_token_is_shown_nowhere(tmp_path):
    """Neither among the settings nor in their representation; the name of a variable is no secret."""
    file = tmp_path / "rlm.toml"
    file.write_text("")
    set_here = load_settings(file, {"RLM_WEB__TOKEN": TOKEN})
    named, unset = load_settings(file, {"RLM_WEB__TOKEN": "env:T"}), load_settings(file, {})

    assert TOKEN not in repr(set_here) + str(set_here.shown)
    shown = [settings.shown["web.token"].value for settings in (set_here, named, unset)]
    assert shown == ["***", "env:T", ""]
