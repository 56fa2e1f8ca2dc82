"""Shell completion: names of the live store and the configuration, quickly, silently, without starting anything."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from rlm.cli.group import COMMANDS, rlm
from rlm.core.item import Reason, encode_letter
from tests.acceptance.cli import WITH_BUDGET, Installation
from tests.store import steps


@pytest.fixture
def inst(tmp_path, valkey_only_url):
    with Installation(tmp_path, valkey_only_url, WITH_BUDGET) as made:
        yield made


def completed(line, config=None):
    """Return the completions of the last word of a line, with the configuration named in it."""
    words = line.split(" ")[1:]
    named = ["--config", str(config)] if config and len(words) > 1 else []
    found = ShellComplete(rlm, {}, "rlm", "_RLM_COMPLETE").get_completions([*words[:-1], *named], words[-1])
    return [one.value for one in found]


def in_bash(line, environ=None, where=None):
    """Return what a real bash offers for the last word of a line, and its other output."""
    words = line.split(" ")
    script = (
        f"{sys.executable} -m rlm completion bash > script && . ./script\n"
        f"COMP_WORDS=({' '.join(map(repr, words))}); COMP_CWORD={len(words) - 1}\n"
        '_rlm_completion rlm 2>errors; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    place = where / "bin"
    place.mkdir()
    (place / "rlm").write_text(f'#!/bin/sh\nexec {sys.executable} -m rlm "$@"\n')
    (place / "rlm").chmod(0o755)
    path = f"{place}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],  # the bash of this machine is what is tried
        cwd=where,
        env={**os.environ, "PATH": path, **(environ or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.split(), done.stderr


def test_bash_completes_from_the_live_store(inst, tmp_path):
    """A real one, with the script it is given: a run that is open, and nothing that Enter would have it do else."""
    # A run, and names of runs that another program wrote
    run = inst.start_run()
    hostile = ["$(touch pwned)", "`touch pwned`", "a;touch pwned", "two words", "*", "--all", "b\nplain,c;d", "\x1b[2J"]
    inst.store.client.lpush(inst.store.keys.runs, *hostile)

    found, errors = in_bash("rlm status ", {"RLM_CONFIG": str(inst.config)}, tmp_path)

    assert found == [run.id]
    assert errors == ""
    assert not (tmp_path / "pwned").exists()


def test_bash_gets_no_word_where_nothing_can_be_read(tmp_path):
    """A wrong configuration, for example: nothing is offered, nothing printed, nothing started."""
    # A configuration that cannot be used
    (tmp_path / "rlm.toml").write_text("[workers]\nmax = 0\n")

    found, errors = in_bash("rlm endpoint pause ", where=tmp_path)

    assert found == []
    assert errors == ""
    assert not (tmp_path / ".rlm").exists()


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_can_read_their_scripts(tmp_path, shell):
    """Each has one, which it takes for its own language where it is installed."""
    # The script of a shell
    done = CliRunner().invoke(rlm, ["completion", shell])
    assert done.exit_code == 0
    assert "_RLM_COMPLETE" in done.stdout

    if program := shutil.which(shell):
        (tmp_path / "script").write_text(done.stdout)
        checked = subprocess.run([program, "-n", "script"], cwd=tmp_path, capture_output=True, timeout=60, check=False)

        assert checked.returncode == 0, checked.stderr


def test_commands_and_options(inst):
    """All of them, each with what it does, and those of a group."""
    assert set(completed("rlm ")) == set(COMMANDS)
    assert completed("rlm sta") == ["status", "start"]
    assert "push" in completed("rlm queue ")
    assert "--json" in completed("rlm status --j")
    assert "--debug" in completed("rlm --d")


def test_names_of_the_configuration(inst, monkeypatch):
    """Types, endpoints and budgets, settings."""
    monkeypatch.setenv("RLM_CONFIG", str(inst.config))

    assert completed("rlm endpoint pause ") == ["rebalance_api", "account"]
    assert completed("rlm endpoint limit acc") == ["account"]
    assert completed("rlm plan --add-endpoint REB") == ["REBALANCE_NEEDED"]
    assert completed("rlm mock-api --fail re") == ["rebalance_api"]
    assert "run.target" in completed("rlm config show run.")


def test_what_comes_before_a_value(inst, monkeypatch):
    """The type or the key with its `=`, behind which the value is to be typed."""
    monkeypatch.setenv("RLM_CONFIG", str(inst.config))

    assert completed("rlm plan --count REB") == ["REBALANCE_NEEDED="]
    assert completed("rlm plan --set run.t") == ["run.target="]
    assert completed("rlm plan --count ") == ["REBALANCE_NEEDED="]


def test_runs_and_dead_letters(inst):
    """The open run for `cancel`, all for the others; a dead letter that is named already is not offered again."""
    # Two runs, one of them open, and two dead letters
    first = inst.start_run()
    inst.close_run(first)
    run = inst.start_run()
    raws = [
        encode_letter(item, Reason.REJECTED, "400", failed_at=1.0, run_id="r", event=None)
        for item in steps.items(2, steps.TYPE)
    ]
    inst.store.client.lpush(inst.store.keys.failed, *raws)
    handles = [json.loads(raw)["id"] for raw in raws]

    assert completed("rlm result ", inst.config) == [run.id, first.id]
    assert completed("rlm cancel ", inst.config) == [run.id]
    assert completed("rlm failed show ", inst.config) == handles[::-1]
    assert completed(f"rlm failed drop {handles[0]} ", inst.config) == [handles[1]]


def test_an_embedded_server_is_not_started(tmp_path, monkeypatch):
    """One that does not run knows of no runs."""
    monkeypatch.chdir(tmp_path)

    assert completed("rlm status ") == []
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_does_not_answer_is_not_waited_for(tmp_path):
    """Half a second, while somebody sits there with a key pressed."""
    # Something that listens and says nothing
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = tmp_path / "silent.toml"
        config.write_text(f'[redis]\nurl = "redis://127.0.0.1:{silent.getsockname()[1]}/0"\n')

        began = time.monotonic()
        found = completed("rlm status ", config)

    assert found == []
    assert time.monotonic() - began < 3
