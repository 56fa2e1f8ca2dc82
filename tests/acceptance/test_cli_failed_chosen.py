"""`rlm failed` with options that choose letters, in groups or one by one."""

from __future__ import annotations

import json

import pytest

from rlm.core.clock import system_clock
from rlm.core.item import Reason, encode_letter
from tests.each import each
from tests.store import steps


@pytest.fixture
def ids(inst):
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


def listed(inst, ids, *how):
    found = [one["id"] for one in inst.json("failed", "list", *how)]
    return {name for name, handle in ids.items() if handle in found}


@each(
    ("how", "names"),
    [
        (["--type", steps.TYPE], {"old", "new", "other"}),
        (["--type", "NOBODY"], set()),
        (["--reason", "not_json", "--reason", "too_large"], {"not_json", "too_large"}),
        (["--endpoint", steps.ENDPOINT, "--since", "1h"], {"new", "other"}),
        (["--since", "999999999d"], {"old", "new", "other", "not_json", "too_large"}),
        (["--search", "wÄLLET 2"], {"new"}),
        (["--search", "i1:"], {"old"}),
        (["--search", "wallet 9"], {"not_json"}),
        (["--search", "http 404"], {"other"}),
    ],
)
def test_letters_are_chosen_by_what_is_known_of_them(inst, ids, how, names):
    """All that is asked for must fit; of one option said several times any does."""
    assert listed(inst, ids, *how) == names


def test_a_retry_of_all_says_what_stays(inst, ids):
    """An item without an event goes back to its list; one that was moved aside cannot."""
    done = inst.json("failed", "retry", "--all", code=1)

    assert set(done["retried"]) == {ids["old"], ids["new"], ids["other"], ids["not_json"]}
    assert [one["id"] for one in done["refused"]] == [ids["too_large"]]
    assert listed(inst, ids) == {"too_large"}
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
