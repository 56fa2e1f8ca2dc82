"""`rlm up` before it starts anything: the processes, their environment, and faults of a Procfile."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from rlm.cli import up
from rlm.cli.up import _commands
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
