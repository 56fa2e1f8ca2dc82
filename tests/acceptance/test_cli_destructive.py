"""Commands that remove or send many things count them first, ask, and have `--yes` and `--dry-run`."""

from __future__ import annotations

import json

import pytest

from rlm.core.item import Reason, encode_letter
from tests.store import steps


@pytest.fixture
def letters(inst):
    """Three dead letters, by their ids."""
    raws = [
        encode_letter(item, Reason.REJECTED, "400", failed_at=1703169025.0, run_id="r", event=steps.event_id(number))
        for number, item in enumerate(steps.items(3, steps.TYPE), start=1)
    ]
    inst.store.client.lpush(inst.store.keys.failed, *raws)
    return [json.loads(raw)["id"] for raw in raws]


def test_a_dry_run_of_clear_counts_and_changes_nothing(inst):
    """Neither asking nor clearing; its document has the number beside `cleared`."""
    # Items on the audit list
    inst.push(*steps.items(3, steps.TYPE))

    said = inst.rlm("queue", "clear", "--dry-run").stdout
    printed = inst.json("queue", "clear", "--dry-run")

    assert "3 items would be removed" in said
    assert printed == {"cleared": 0, "would_clear": 3, "staged": 0}
    assert inst.json("queue", "stats")["events"] == 3


@pytest.mark.parametrize(("command", "done"), [("retry", "retried"), ("drop", "dropped")])
def test_a_dry_run_with_dead_letters_counts_and_changes_nothing(inst, letters, command, done):
    """All of them, or those named; one that is not there is exit 3 as ever."""
    said = inst.rlm("failed", command, "--all", "--dry-run").stdout
    printed = inst.json("failed", command, letters[0], "--dry-run")
    unknown = inst.rlm("failed", command, "nobody", "--dry-run", code=3)

    assert f"3 dead letters would be {done}" in said
    of_retry = {"left": [], "would_be_left": 0, "would_be_refused": 0} if command == "retry" else {}
    assert printed == {done: [], "refused": [], f"would_be_{done}": 1, **of_retry}
    assert "No dead letter 'nobody'" in unknown.stderr
    assert len(inst.json("failed", "list")) == 3


@pytest.mark.parametrize("command", ["retry", "drop"])
def test_what_comes_while_somebody_is_asked_stays(inst, letters, monkeypatch, command):
    """Done is what was counted: a letter that nobody has seen is not dropped with the others, nor is what is none."""
    # Something of another program among three letters, and a person who thinks while the next comes
    new = encode_letter(b"{}", Reason.REJECTED, "new", failed_at=1703169025.0, run_id="r", event=None)
    client, failed, asked = inst.store.client, inst.store.keys.failed, []

    def think(question, _done):
        asked.append(question)
        client.lpush(failed, new)

    client.rpush(failed, b"no letter")
    monkeypatch.setattr("rlm.cli.failed.confirm", think)
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _self: True, raising=False)

    inst.rlm("failed", command, "--all")

    assert "3 dead letters" in asked[0]
    assert client.lrange(failed, 0, -1) == [new, b"no letter"]
