"""`rlm status --all`: a line for each installation, whatever the others do."""

from __future__ import annotations

import json
import os
import socket
from contextlib import ExitStack

import pytest
from click.testing import CliRunner

from rlm.admin import installations
from rlm.cli.group import rlm
from rlm.core.run import State
from rlm.core.text import safe
from tests.acceptance.cli import Installation
from tests.store import steps


@pytest.fixture
def two(tmp_path, valkey_only_url):
    """The first has an open run with three events; the second is unused."""
    with ExitStack() as stack:
        first, second = (stack.enter_context(Installation(tmp_path, valkey_only_url)) for _ in range(2))
        first.push(*steps.items(3, steps.TYPE))
        steps.put_into(first.store, first.start_run(), State.RUNNING)
        yield first, second


def run_all(*places, code=0, how=("--json",)):
    args = [word for one in places for word in ("--all", str(one))]
    done = CliRunner().invoke(rlm, ["status", *args, *how])
    assert done.exit_code == code, (done.output, done.exception)
    return json.loads(done.stdout) if how == ("--json",) else done.stdout


def test_a_folder_is_all_its_installations(two, tmp_path):
    """Each has an entry, in the order of their names, and the totals are their sums; all keys are documented."""
    found = run_all(tmp_path)

    entries = {one["name"]: one for one in found["installations"]}
    assert list(entries) == sorted(one.prefix for one in two)
    first, second = (entries[one.prefix] for one in two)
    assert (first["state"], first["done"], first["left"], first["error"]) == ("running", 0, 3, None)
    assert first["run_id"] == two[0].store.runs.current().id
    assert (second["state"], second["run_id"], second["left"]) == ("idle", None, 0)
    assert found["totals"] | {"endpoints": 0} == {
        "installations": 2, "answered": 2, "open": 1, "done": 0, "left": 3, "endpoints": 0, "unwell": 0
    }  # fmt: skip
    assert first["verdict"] == "No worker is ready" or first["level"] in {"bad", "warn", "well"}


def test_those_that_cannot_be_shown_hold_up_no_other(two, tmp_path):
    """Nobody there, nothing said, a faulty file, one file twice, an embedded server that does not run."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        (tmp_path / "silent.toml").write_text(f'[redis]\nurl = "redis://127.0.0.1:{port}/0"\n')
        (tmp_path / "away.toml").write_text('[redis]\nurl = "redis://:s3cretword@127.0.0.1:1/0"\n')
        (tmp_path / "asleep.toml").write_text('[redis]\nurl = "embedded"\n')
        (tmp_path / "faulty.toml").write_text('[redis]\nurl = "nonsense"\n[workers]\nmax = "many"\n')
        (tmp_path / "z-again.toml").write_text(two[0].config.read_text())
        files = installations.find_installations([tmp_path])
        found = installations.overview_of_all(files, {}, 0.5)

    entries = {one["name"]: one for one in found["installations"]}
    assert entries[two[0].prefix]["left"] == 3
    assert entries[two[1].prefix]["error"] is None
    told = {name: (one["state"], one["error"]) for name, one in entries.items() if one["error"]}
    assert told.pop("silent") == ("unreachable", "no answer within 0.5 s")
    assert told["away"][0] == "unreachable"
    assert "cannot be reached" in told["away"][1]
    assert "s3cretword" not in json.dumps(found)
    assert "does not run" in told["asleep"][1]
    assert not list(tmp_path.glob(".rlm/*.lock"))  # nothing was started
    assert told["faulty"][0] == "misconfigured"
    assert "workers.max" in told["faulty"][1]
    assert f"the same installation as {two[0].prefix}" in told["z-again"][1]
    assert found["totals"]["answered"] == 2


def test_the_exit_code_says_what_is_wrong(two, tmp_path):
    """4 where a Redis does not answer, 2 where a file is at fault; the table is printed all the same."""
    (tmp_path / "away.toml").write_text('[redis]\nurl = "redis://127.0.0.1:1/0"\n')

    told = run_all(tmp_path, code=4, how=())
    assert two[0].prefix in told
    assert "3 installations, 1 of them cannot be shown; 1 run open; 0 done, 3 left" in told
    (tmp_path / "faulty.toml").write_text("[workers]\nmax = -1\n")
    run_all(tmp_path, code=2)
    assert run_all(*(one.config for one in two))["totals"]["installations"] == 2
    run_all(tmp_path / "nowhere", code=2, how=())
    run_all(tmp_path, code=2, how=("--follow",))


def test_hostile_names_and_values_stay_on_their_lines(two, tmp_path):
    """A file's name with a control sequence or no text at all; a run id and a state that another wrote into Redis."""
    content = two[0].config.read_text()
    two[0].config.unlink()
    hostile = os.fsdecode(b"a\x1b[2J\xffb.toml")
    (tmp_path / hostile).write_text(content)
    (tmp_path / "\u202ebad\n.toml").write_text("[redis\x1b]")
    keys_, run = two[0].store.keys, two[0].store.runs.current()
    two[0].store.client.hset(keys_.run(run.id), "forecast", b'{"binds": "\x1b[2J"}')

    told = run_all(tmp_path, code=2, how=())
    assert safe(told) == told
    assert len(told.splitlines()) == 1 + 3 + 2
    run_all(tmp_path, code=2)


def test_files_of_one_name_are_told_apart(tmp_path):
    """By their paths; a file that is named twice is one."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rlm.toml").write_text("")
    (tmp_path / "c.toml").write_text("")
    places = [tmp_path / "a", tmp_path / "b", tmp_path / "c.toml", tmp_path / "b" / "rlm.toml"]

    found = list(installations.find_installations(places))

    assert found == [str(tmp_path / "a" / "rlm.toml"), str(tmp_path / "b" / "rlm.toml"), "c"]
