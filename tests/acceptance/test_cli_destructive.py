"""Commands that remove or send many things count them first, ask, and have `--yes`."""

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


@pytest.mark.parametrize("command", ["retry", "drop"])
def test_what_comes_while_somebody_is_asked_stays(inst, letters, monkeypatch, command):
    """Done is what was counted: a letter that nobody has seen is not dropped with the others, nor is what is none."""
    # Something of another program among three letters, and a person who thinks while the next comes
    new = encode_letter(b"{}", Reason.REJECTED, "new", failed_at=1703169025.0, run_id="r", event=None)
    client, failed, asked = inst.store.client, inst.store.keys.failed, []

    def think(question):
        asked.append(question)
        client.lpush(failed, new)

    client.rpush(failed, b"no letter")
    monkeypatch.setattr("rlm.cli.failed.confirm", think)
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _self: True, raising=False)

    inst.rlm("failed", command, "--all")

    assert "3 dead letters" in asked[0]
    assert client.lrange(failed, 0, -1) == [new, b"no letter"]
