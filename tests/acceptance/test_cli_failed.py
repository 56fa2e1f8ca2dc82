"""`rlm failed`: list, show, retry and drop dead letters, on a real server."""

from __future__ import annotations

import base64
import json

import pytest

from rlm.core.clock import system_clock
from rlm.core.item import Reason, encode_letter
from tests.each import each
from tests.store import steps


def letter(inst, item, reason=Reason.REJECTED, detail="400 from rebalance_api", event=None):
    """Put a dead letter into the list, like a run; return its id."""
    raw = encode_letter(item, reason, detail, failed_at=1703169025.0, run_id="run", event=event)
    inst.store.client.lpush(inst.store.keys.failed, raw)
    return json.loads(raw)["id"]


def letters_of_events(inst, number, type_name=steps.TYPE):
    """Put dead letters of events into the list; return their ids, the oldest first."""
    return [
        letter(inst, item, event=steps.event_id(index, type_name))
        for index, item in enumerate(steps.items(number, type_name), start=1)
    ]


def ids(inst):
    """Return the ids of the existing letters, newest first."""
    return [one["id"] for one in inst.json("failed", "list", "1000")]


@pytest.mark.parametrize("reason", [Reason.REJECTED, Reason.BAD_VALUE])
@each(
    "damaged",
    [b"garbage", b"", b"\x01packed", b'"\xff"', b'{"a": 1}}', b'null, "id": "forged"', b"[" * 5000 + b"]" * 5000],
)
def test_an_item_that_was_damaged_in_the_ledger_hides_no_letter(inst, reason, damaged):
    """It cannot stand in the JSON of its letter as it is: it is kept whole, shown, refused by a retry, and dropped."""
    handle = letter(inst, damaged, reason, "what happened", event=steps.event_id(1))

    (listed,) = inst.json("failed", "list")
    shown = inst.rlm("failed", "show", handle).stdout
    refused = inst.rlm("failed", "retry", handle, code=1)

    assert listed["id"] == handle
    assert listed["event_id"] == steps.event_id(1)
    assert listed["reason"] in {Reason.NOT_JSON, Reason.NOT_UTF8, Reason.TOO_DEEP}
    assert base64.b64decode(listed["item"]["base64"]) == damaged
    assert "what happened; its item is n" in " ".join(shown.split())
    assert "Traceback" not in refused.output
    assert inst.store.letters.count() == 1
    inst.rlm("failed", "drop", handle, "--yes")
    assert inst.store.letters.count() == 0


def test_an_empty_item_goes_back_to_the_list_by_a_retry(inst):
    """It has no event, and nothing is lost, not even nothing."""
    handle = letter(inst, b"", Reason.NOT_JSON)

    assert inst.json("failed", "retry", handle)["retried"] == [handle]
    assert (inst.store.letters.count(), inst.store.intake.lengths()) == (0, (0, 1))


def test_what_cannot_be_retried_says_why_and_the_others_are(inst):
    """A type that is no longer configured, an event that is under way again: exit 1, each with its reason."""
    good = letter(inst, steps.item("i1", steps.TYPE), event=steps.event_id(1))
    former = letter(inst, steps.item("i2", "FORMER"), Reason.UNKNOWN_TYPE, event="i2:FORMER")
    again = letter(inst, steps.item("i3", steps.TYPE), event=steps.event_id(3))
    inst.push(steps.item("i3", steps.TYPE))
    inst.start_run()

    done = inst.json("failed", "retry", good, former, again, code=1)

    assert done["retried"] == [good]
    reasons = {one["id"]: one["reason"] for one in done["refused"]}
    assert "'FORMER' is not a configured type" in reasons[former]
    assert f"rlm failed drop {former}" in reasons[former]
    assert "under way again" in reasons[again]
    assert ids(inst) == [again, former]


@pytest.fixture
def kinds(inst):
    """Five letters of different kinds, by name; the first is the oldest."""
    now = system_clock.now()

    def put(item, reason, detail, age=0.0, event=None, **also):
        return push(encode_letter(item, reason, detail, failed_at=now - age, run_id="r", event=event, **also))

    def push(raw):
        inst.store.client.lpush(inst.store.keys.failed, raw)
        return json.loads(raw)["id"]

    first, second, third = (steps.item(f"i{n}", steps.TYPE, wallet_name=f"Wället {n}") for n in (1, 2, 3))
    answered = "rebalance_api answered HTTP"
    at = {"endpoint": steps.ENDPOINT}
    return {
        "old": put(first, Reason.REJECTED, f"{answered} 422: no", 7200, steps.event_id(1), **at),
        "new": put(second, Reason.REJECTED, f"{answered} 422: never", 0, steps.event_id(2), **at),
        "other": put(third, Reason.REJECTED, f"{answered} 404", 0, steps.event_id(3), **at),
        "not_json": put(b"{wallet 9", Reason.NOT_JSON, "not JSON"),
        "too_large": push(
            encode_letter(
                b"null", Reason.TOO_LARGE, "70000 bytes", failed_at=now, run_id="r", event=None, aside="rlm:aside"
            )
        ),
    }


def chosen(inst, kinds, *how):
    found = [one["id"] for one in inst.json("failed", "list", *how)]
    return {name for name, handle in kinds.items() if handle in found}


@each(
    ("how", "names"),
    [
        (["--type", steps.TYPE], {"old", "new", "other"}),
        (["--type", "NOBODY"], set()),
        (["--reason", "not_json", "--reason", "too_large"], {"not_json", "too_large"}),
        (["--endpoint", steps.ENDPOINT, "--since", "1h"], {"new", "other"}),
        (["--search", "wÄLLET 2"], {"new"}),
        (["--search", "i1:"], {"old"}),
        (["--search", "wallet 9"], {"not_json"}),
        (["--search", "http 404"], {"other"}),
    ],
)
def test_letters_are_chosen_by_what_is_known_of_them(inst, kinds, how, names):
    """All that is asked for must fit; of one option said several times any does."""
    assert chosen(inst, kinds, *how) == names


def test_a_retry_of_all_says_what_stays(inst, kinds):
    """An item without an event goes back to its list; one that was moved aside cannot."""
    done = inst.json("failed", "retry", "--all", code=1)

    assert set(done["retried"]) == {kinds["old"], kinds["new"], kinds["other"], kinds["not_json"]}
    assert [(one["id"], "max_item_bytes" in one["reason"]) for one in done["refused"]] == [(kinds["too_large"], True)]
    assert chosen(inst, kinds) == {"too_large"}
    assert inst.json("queue", "stats")["events"] == 1


def test_a_retry_of_all_never_multiplies_letters_nor_brings_back_a_sibling(inst):
    """Of an item with one good type and three that are no names the letter is left, however often it is tried."""
    inst.push(steps.item("m", steps.TYPE, "x y", "ä", "<b>"))
    inst.start_run()
    (before,) = inst.json("failed", "list")
    assert (before["event_id"], before["types"]) == (None, ["x y", "ä", "<b>"])

    for _ in range(2):
        done = inst.json("failed", "retry", "--all", "--yes", code=1)
        assert (done["retried"], len(done["refused"])) == ([], 1)
    assert inst.json("failed", "list") == [before]


@pytest.mark.parametrize("command", ["retry", "drop"])
def test_what_comes_while_somebody_is_asked_stays(inst, monkeypatch, command):
    """Done is what was counted: a letter that nobody has seen is not dropped with the others, nor is what is none."""
    # Something of another program among three letters, and a person who thinks while the next comes
    new = encode_letter(b"{}", Reason.REJECTED, "new", failed_at=1703169025.0, run_id="r", event=None)
    letters_of_events(inst, 3)
    client, failed, asked = inst.store.client, inst.store.keys.failed, []

    def think(question):
        asked.append(question)
        client.lpush(failed, new)

    client.rpush(failed, b"no letter")
    monkeypatch.setattr("rlm.cli.events.confirm", think)
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _self: True, raising=False)

    inst.rlm("failed", command, "--all")

    assert "3 dead letters" in asked[0]
    assert client.lrange(failed, 0, -1) == [new, b"no letter"]
