"""Common to all commands: the exit codes for a wrong configuration and an unreachable Redis, and their help."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner

from rlm.cli.group import rlm
from tests.each import each

#: What commands must be given besides options.
ARGUMENTS = {
    "queue drop": ["--all"],
    "failed show": ["x"],
    "failed retry": ["x"],
    "failed drop": ["x"],
    "explain": ["e1"],
    "endpoint pause": ["rebalance_api"],
    "endpoint resume": ["rebalance_api"],
    "endpoint limit": ["rebalance_api", "5/minute"],
    "endpoint share": ["rebalance_api"],
}
#: They need no Redis: they start what they need, or nothing, or wait for it.
WITHOUT_REDIS = {"config show", "config check", "init", "demo", "up", "mock-api", "queue monitor"}
#: They go on for as long as nobody stops them, and title, log and signals of their process are theirs.
LONG_RUNNING = {"scheduler", "supervisor", "worker start", "web", "up"}


def leaves(group, path=()):
    """All commands, those in groups as `queue stats`."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield " ".join((*path, name)), command


LEAVES = dict(leaves(rlm))
WITH_CONFIG = [name for name, command in LEAVES.items() if any(one.name == "config" for one in command.params)]
ENDING = [name for name in WITH_CONFIG if name not in LONG_RUNNING]


def run(name, *args):
    """Run a command in this process."""
    return CliRunner().invoke(rlm, [*name.split(), *ARGUMENTS.get(name, []), *args])


def run_apart(name, *args):
    """Run a command in a process of its own; the result has the attributes of that of `run`."""
    command = [sys.executable, "-m", "rlm", *name.split(), *args]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    return SimpleNamespace(exit_code=done.returncode, stdout=done.stdout, stderr=done.stderr)


@pytest.mark.parametrize(("end", "code"), [("<&- >&-", 0), ("| true; exit ${PIPESTATUS[0]}", 141)])
def test_without_standard_streams_or_a_reader_all_is_done(tmp_path, end, code):
    shown = ["bash", "-c", f"{sys.executable} -m rlm init d {end}"]
    assert subprocess.run(shown, cwd=tmp_path, check=False, timeout=60).returncode == code
    assert {path.name for path in (tmp_path / "d").iterdir()} == {"rlm.toml", "Procfile"}


@each("name", ENDING)
def test_a_wrong_configuration_is_exit_two(name, tmp_path):
    """File, key, value and what is allowed are named; nothing is started. Only the doctor has more to say."""
    done = run(name, "--config", wrong_config(tmp_path))

    assert_wrong(done, tmp_path)
    assert done.stdout == "" or name == "doctor"


@pytest.mark.rest
@pytest.mark.parametrize("name", sorted(LONG_RUNNING))
def test_a_long_running_process_does_not_start_with_a_wrong_configuration(name, tmp_path):
    done = run_apart(name, "--config", wrong_config(tmp_path))
    without = run_apart(name, "--config", str(tmp_path / "none.toml"))

    assert_wrong(done, tmp_path)
    assert done.stdout == ""
    assert without.exit_code == 2
    assert "none.toml" in without.stderr


def wrong_config(directory):
    config = directory / "wrong.toml"
    config.write_text("[workers]\nmax = 0\n")
    return str(config)


def assert_wrong(done, directory):
    assert done.exit_code == 2
    assert all(word in done.stderr for word in ("wrong.toml", "workers.max = 0", "from 1 to 1000"))
    assert not (directory / ".rlm").exists()


@each("name", [name for name in ENDING if name not in WITHOUT_REDIS])
def test_an_unreachable_redis_is_exit_four(name, tmp_path):
    done = run(name, "--config", away_config(tmp_path))

    assert done.exit_code == 4
    assert "redis.url" in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize("name", ["scheduler", pytest.param("supervisor", marks=pytest.mark.rest)])
def test_a_long_running_process_does_not_start_without_redis(name, tmp_path):
    done = run_apart(name, "--config", away_config(tmp_path))

    assert done.exit_code == 4
    assert "redis.url" in done.stderr
    assert "Traceback" not in done.stderr


def away_config(directory):
    config = directory / "away.toml"
    config.write_text(f'[redis]\nurl = "unix://{directory}/nobody.sock"\n')
    return str(config)
