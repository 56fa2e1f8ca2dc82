"""The configuration file is edited while RLM runs: nothing changes until the restart, whatever it contains."""

from __future__ import annotations

import json

import pytest

from tests.acceptance.system import System

pytestmark = pytest.mark.rest


@pytest.fixture
def system(tmp_path):
    """A system whose workers start when a run needs them: none is kept between runs."""
    with System(tmp_path) as system:
        system.start_both()
        yield system


def findings(system):
    """Return the findings of `rlm doctor` about processes and the configuration, by name."""
    said = json.loads(system.rlm("doctor", "--json", check=False).stdout)["findings"]
    return {one["name"]: (one["verdict"], one["message"], one["remedy"]) for one in said}


def changed(text, old, new):
    """Return the text of a file with a replacement."""
    assert old in text
    return text.replace(old, new)


def complete(system, prefix):
    """Push an event of each type and let a run send them all; return the ids, and the record."""
    ids = system.push_evenly(len(system.types), prefix=prefix)
    record = system.await_record(system.ask_for_run())
    assert record["counts"]["completed"] == len(ids), (record, system.log("supervisor"))
    return ids, record


def test_an_edited_or_faulty_file_changes_nothing_until_the_restart(system):
    """Workers come up with what their supervisor has read, not with what stands in the file by then."""
    text = system.config.read_text()
    assert system.workers() == []

    system.config.write_text(changed(text, '"30 per ', '"20 per '))
    edited, first = complete(system, "edited")
    told = findings(system)
    for name in ("scheduler", "supervisor"):
        verdict, message, remedy = told[name]
        assert (verdict, remedy) == ("warn", "restart it")
        assert message.endswith("runs another configuration")

    system.config.write_text(changed(text, "max_runs = 5", 'max_runs = "two"'))
    faulty, second = complete(system, "faulty")
    assert "max_runs" in system.rlm("doctor", check=False).stderr

    system.config.write_text(text)
    system.assert_promises([*edited, *faulty], [first, second])
    assert "Traceback" not in system.log("supervisor")
    assert "ended unexpectedly" not in system.log("supervisor")
