"""The settings of a host: its name, labels, how many workers it takes."""

from __future__ import annotations

import socket

import pytest

from rlm.core.errors import ConfigurationError
from rlm.settings import load_settings


@pytest.fixture
def load(tmp_path):
    """Load a file of this text."""
    path = tmp_path / "rlm.toml"

    def load(text="", **environ):
        path.write_text(text)
        return load_settings(path, environ)

    return load


def test_a_host_has_its_own_name_unless_it_is_told_another(load):
    """The system's, the file's, a variable's."""
    assert load().host_name == socket.gethostname()
    assert load('[host]\nname = "here"').host_name == "here"
    assert load('[host]\nname = "here"', RLM_HOST__NAME="there").host_name == "there"


def test_a_host_takes_as_many_workers_as_there_are_at_most_unless_it_is_told_how_many(load):
    """And what it is told changes nothing of what workers depend on."""
    assert load("[workers]\nmax = 7").capacity == 7
    assert load("[workers]\nmax = 7\nmax_here = 3").capacity == 3
    assert load("", RLM_WORKERS__MAX_HERE="4").revision == load().revision


def test_a_variable_has_labels_between_commas(load):
    """As the file has them in a table."""
    assert load('[host]\nlabels = { zone = "a", rack = "7" }').host.labels == {"zone": "a", "rack": "7"}
    assert load("", RLM_HOST__LABELS="zone=a, rack = 7").host.labels == {"zone": "a", "rack": "7"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[host]\nname = "a:b"', "host.name"),
        ('[host]\nlabels = { zone = "" }', "host.labels"),
        ('[host]\nlabels = { zone = "a,b" }', "host.labels"),
        ("[host]\nlabels = { zone = 7 }", "host.labels"),
        ("[workers]\nmax_here = -1", "workers.max_here"),
    ],
)
def test_what_a_host_cannot_say_is_refused(load, text, expected):
    """The setting is named."""
    with pytest.raises(ConfigurationError, match=expected):
        load(text)
