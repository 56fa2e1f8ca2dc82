"""`rlm mock-api`: its options and wrong uses. An acceptance test shows that it serves and ends."""

from __future__ import annotations

import socket
import sys
from types import ModuleType, SimpleNamespace

import pytest
from click.testing import CliRunner

from rlm.cli.sandbox import _faults, mock_api
from rlm.core.endpoint import Endpoint, EventType, Limit
from rlm.core.errors import ListenError
from tests.each import each


@pytest.fixture
def run(monkeypatch):
    """Run the command with a configuration of one endpoint, `a`."""
    types = (EventType("T", 5, 1.0, (Endpoint("a", "http://h/a", Limit.parse("1/second"), 1.0),)),)
    settings = ModuleType("rlm.settings")
    settings.load_settings = lambda _path: SimpleNamespace(event_types=types)
    monkeypatch.setitem(sys.modules, "rlm.settings", settings)
    return lambda *arguments: CliRunner().invoke(mock_api, arguments)


def test_a_port_in_use_is_named_with_the_remedy(run):
    """Nobody has to guess which port, or what to do about it; in the words of `rlm web`."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = run("--port", str(port))

    assert isinstance(result.exception, ListenError)
    assert str(result.exception) == (
        f"cannot listen on 127.0.0.1 port {port}: Address already in use; choose another --host or --port"
    )


@each(
    ("arguments", "message"),
    [
        (["--fail", "a"], "'a' is not ENDPOINT=RATE"),
        (["--fail", "a=2"], "<= 1.0"),
        (["--fail", "b=0.5"], "there is no endpoint 'b'; there are a"),
        (["--fault", "a=down"], "is not ENDPOINT.FIELD=VALUE"),
        (["--fault", "a.dwn=true"], "the fields are down"),
        (["--log", "/nowhere/at/all"], "cannot write /nowhere/at/all"),
    ],
)
def test_a_wrong_option_is_a_usage_error(run, arguments, message):
    """The message names the option's value and what is allowed."""
    result = run("--port", "0", *arguments)

    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_fault_options_add_up():
    """What is said of all endpoints holds for one that has a fault of its own, too."""
    faults = _faults(["a.b=0.3"], ["*.slow=3", "a.b.outages=[[1,2]]", "c.retry_after=date"])

    assert faults == {
        "*": {"slow": 3},
        "a.b": {"slow": 3, "error_rate": 0.3, "outages": [[1, 2]]},
        "c": {"slow": 3, "retry_after": "date"},
    }


def test_the_help_says_how_to_end_a_fault(run):
    """By a POST of nothing for that endpoint; one of nothing at all changes nothing."""
    assert '{"NAME": {}} ends them' in " ".join(run("--help").stdout.split())
