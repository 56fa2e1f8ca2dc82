"""`rlm up` before it starts anything: the processes, their environment, and faults of a Procfile."""

from __future__ import annotations

import os
import shlex
import sys
import sysconfig

import pytest
from click.testing import CliRunner

from rlm.cli import up
from rlm.cli.up import _commands, _environment
from rlm.core.errors import ConfigurationError
from rlm.settings import load_settings


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Settings of a file in its own directory, which is not the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "etc").mkdir()
    config = tmp_path / "etc" / "rlm.toml"
    config.write_text("[run]\ntarget = 0.5\n")
    return load_settings(config, {})


def commands(settings):
    return _commands(settings.source.parent / "Procfile", allow_volatile=False)


def test_without_a_procfile_it_is_a_scheduler_a_supervisor_and_the_dashboard(settings):
    """The default is run by this interpreter, whatever PATH says."""
    found = commands(settings)

    assert list(found) == ["scheduler", "supervisor", "web"]
    assert shlex.split(found["web"])[-2:] == ["web", "--wait"]  # a port that is taken stops nothing
    assert shlex.split(found["supervisor"]) == ["exec", sys.executable, "-P", "-m", "rlm", "supervisor"]


def test_the_procfile_beside_the_configuration_is_taken(settings, tmp_path):
    """Not one that happens to be in the current directory."""
    (tmp_path / "Procfile").write_text("other: true\n")
    (settings.source.parent / "Procfile").write_text("# ours\nscheduler: exec rlm scheduler\nweb: exec rlm web\n")

    assert commands(settings) == {"scheduler": "exec rlm scheduler", "web": "exec rlm web"}


@pytest.mark.parametrize("content", [b"", b"no process here\n", b"a: true\na: false\n", b"\xff\xfe: x\n"])
def test_a_procfile_that_cannot_be_used_is_an_error(settings, content):
    """The message names the file."""
    (settings.source.parent / "Procfile").write_bytes(content)

    with pytest.raises(ConfigurationError, match="Procfile"):
        commands(settings)


def test_allow_volatile_goes_to_the_default_processes_and_to_no_others(settings):
    """A flag that a Procfile would swallow is refused."""
    found = _commands(settings.source.parent / "Procfile", allow_volatile=True)
    assert {name: command.endswith("--allow-volatile") for name, command in found.items()} == {
        "scheduler": True,
        "supervisor": True,
        "web": False,  # it keeps nothing
    }
    (settings.source.parent / "Procfile").write_text("scheduler: exec rlm scheduler\n")

    done = CliRunner().invoke(up.up, ["--allow-volatile", "--config", str(settings.source)])

    assert done.exit_code == 2
    assert "Procfile" in done.output


def test_the_processes_read_the_same_configuration_and_find_this_rlm(settings):
    """The environment names the file and has this installation's scripts first on PATH."""
    env = _environment(settings, {"PATH": "/usr/bin", "OTHER": "kept"})

    assert env["RLM_CONFIG"] == str(settings.source)
    assert env["OTHER"] == "kept"
    path = env["PATH"].split(os.pathsep)
    assert sysconfig.get_path("scripts") in path[:-1]
    assert path[-1] == "/usr/bin"
