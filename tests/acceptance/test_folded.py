"""Every command, page and metric says the same of waiting events, whether they are folded or hashes."""

from __future__ import annotations

import re
from contextlib import closing
from functools import partial
from itertools import zip_longest
from urllib.parse import quote

import pytest
from click.testing import CliRunner

from rlm.cli.group import rlm
from rlm.ledger import Store
from rlm.ledger.reading.backlog import look
from tests.acceptance.webapp import served
from tests.store import deadletters, folding, looks, steps, windows
from tests.values import replace

WALLET = "ко 7 шелёк"
ITEMS = [
    steps.item("i1", steps.TYPE, steps.OTHER_TYPE, wallet_name=WALLET, timestamp="2026-11-28T10:15:00Z"),
    steps.item("i2", steps.TYPE, priority=0, note="more of the same " * 9),
    steps.item("i3", steps.OTHER_TYPE, priority=100, wallet_name=" 1.000 2 "),
    steps.item("i4", steps.TYPE, timestamp="no time"),
    steps.item("i5", steps.TYPE, steps.OTHER_TYPE, wallet_name=WALLET),
]
EVENT = steps.event_id(1)
COMMANDS = (
    *(("queue", "list"), ("queue", "list", "--type", steps.TYPE), ("queue", "list", "--wallet", WALLET)),
    *(("queue", "list", "--wallet", " 1.000 2 "), ("queue", "list", "--item", "i1"), ("queue", "list", "--item", "i2")),
    *(("queue", "list", "--state", "pending"), ("queue", "list", "--state", "leftover")),
    *(("queue", "list", "--older-than", "1h"), ("queue", "list", "3"), ("queue", "stats")),
    *(("queue", "drop", "--dry-run", "--all"), ("queue", "drop", "--dry-run", "--wallet", WALLET)),
    *(("queue", "drop", "--dry-run", "--older-than", "1h"), ("plan",)),
    *(("explain", EVENT), ("explain", "i1"), ("explain", WALLET), ("explain", steps.event_id(4))),
    *(("status",), ("list",), ("doctor",), ("failed", "list"), ("endpoint", "list"), ("worker", "list")),
)
PATHS = (
    *(
        "/metrics",
        "/",
        "/queue",
        "/whatif",
        f"/events/{EVENT}",
        f"/search?q={quote(WALLET)}",
        "/api/queue",
        "/api/plan",
    ),
    f"/api/events/{EVENT}",
)
TOKEN = re.compile(r'<meta name="csrf-token".*>')
NUMBERS = re.compile(r"(\d+(?:\.\d+)?)")


@pytest.fixture(params=[False, pytest.param(True, marks=pytest.mark.rest)], ids=["plain", "compressed"])
def waiting(request, inst):
    """Events of the ledger that were never claimed: `waiting("leftover")`, or `"pending"` in an open run."""
    windows.trust(inst.store)
    queue = replace(inst.settings.queue, compress=request.param)
    with closing(Store(replace(inst.settings, queue=queue), inst.settings.redis.url)) as store:

        def begin(state):
            steps.push(store, *ITEMS)
            run = steps.start_run(store, inst.token)
            if state == "leftover":
                inst.close_run(run)
            return [*looks.pending(store), *looks.pending(store, steps.OTHER_TYPE)]

        yield begin


def alike(told, others):
    """Return whether two texts are the same but for numbers that a moment makes."""
    told, others = NUMBERS.split(told), NUMBERS.split(others)
    return told[::2] == others[::2] and all(
        abs(float(one) - float(other)) < 5 for one, other in zip(told[1::2], others[1::2], strict=True)
    )


def differing(inst, ids, asked):
    """Ask the same of hashes and of folded events; return the lines of the answers that are not the same.

    A moment may be the one in which a minute begins: only what differs thrice does.
    """
    client, keys, told = inst.store.client, [inst.store.keys.event(one) for one in ids], {}
    for _ in range(3):
        hashes = [client.hgetall(key) for key in keys]
        of_hashes = {one: ask().splitlines() for one, ask in asked.items()}
        folding.fold_in_place(inst.store, *ids)
        of_folded = {one: ask().splitlines() for one, ask in asked.items()}
        client.delete(*keys)
        for key, fields in zip(keys, hashes, strict=True):
            client.hset(key, mapping=fields)
        told = {
            one: [pair for pair in zip_longest(lines, of_folded[one], fillvalue="") if not alike(*pair)]
            for one, lines in of_hashes.items()
        }
        asked = {one: ask for one, ask in asked.items() if told[one]}
    return {one: pairs for one, pairs in told.items() if pairs}


@pytest.mark.parametrize("state", ["leftover", "pending"])
def test_each_command_says_the_same(inst, waiting, state):
    """As JSON; whether a run is open or not."""
    ids = waiting(state)

    def run(*words):
        done = CliRunner().invoke(rlm, [*words, "--json", "--config", str(inst.config)])
        assert done.exit_code < 2, (words, done.output)
        return f"{done.exit_code} {done.output}"

    assert differing(inst, ids, {words: partial(run, *words) for words in COMMANDS}) == {}


@pytest.mark.rest
@pytest.mark.parametrize("state", ["leftover", "pending"])
def test_each_page_and_metric_says_the_same(inst, waiting, state):
    """And what is served as JSON."""
    ids = waiting(state)

    with served(inst.store) as client:

        def get(path):
            answer = client.get(path, Accept="text/html")
            assert answer.status == 200, path
            return TOKEN.sub("", answer.data.decode())

        assert differing(inst, ids, {path: partial(get, path) for path in PATHS}) == {}


def test_what_has_neither_a_place_nor_an_item_is_not_there(inst):
    """A deposed conductor writes it late, and it may stay behind; of an event that failed, its letter is told."""
    windows.trust(inst.store)
    inst.push(ITEMS[1])
    run = steps.start_run(inst.store, inst.token)
    steps.put_into(inst.store, run, "running")
    deadletters.reject(inst.store, inst.token, replace(run, state="running"))
    inst.store.client.delete(inst.store.keys.event(steps.event_id(2)))  # forgotten
    assert folding.write(inst.store, run, *ITEMS[:2])

    assert inst.json("explain", steps.event_id(2))["state"] == "failed"
    inst.rlm("explain", EVENT, code=3)


@pytest.mark.parametrize("is_open", [True, False])
def test_an_event_without_a_place_is_the_one_in_its_item(inst, is_open):
    """A drain was interrupted: whoever takes the item takes the event, and until then it is queued, once."""
    windows.trust(inst.store)
    run = steps.open_run(inst.store, inst.token)
    folding.take(inst.store, inst.token, run, *ITEMS[:2])
    folding.leave_strays(inst.store, run, *ITEMS[2:])
    inst.push(ITEMS[4])
    if not is_open:
        inst.close_run(run)

    assert [inst.json("explain", steps.event_id(number))["state"] for number in (1, 4, 5)] == [
        *("pending" if is_open else "leftover", "queued", "queued")
    ]
    listed = [one["event_id"] for one in inst.json("queue", "list")["events"] if one["state"] == "queued"]
    both = [steps.event_id(5), steps.event_id(5, steps.OTHER_TYPE)]
    assert listed == [steps.event_id(3, steps.OTHER_TYPE), steps.event_id(4), *both, *both]
    waiting = look(inst.store, dedupe=True).waiting
    assert (waiting.events, waiting.duplicates) == ({steps.TYPE: 2, steps.OTHER_TYPE: 2}, 2)
    assert {one: inst.json("plan")["by_type"][one]["events"] for one in (steps.TYPE, steps.OTHER_TYPE)} == {
        steps.TYPE: 4,
        steps.OTHER_TYPE: 3,
    }
