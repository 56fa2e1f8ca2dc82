"""Several installations, split as in docs/scale.md, on one Redis with an API each: by type and by account."""

from __future__ import annotations

import re
import zlib
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.system import System, make_item
from tests.conftest import running_server

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"


def examples(heading):
    """Return the files of a section of the page."""
    section = PAGE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"```toml\n(.*?)```", section, re.DOTALL)


@pytest.fixture
def url(tmp_path):
    """A server that they share, and nobody else uses."""
    with running_server("valkey", tmp_path) as found:
        yield found


@pytest.fixture
def split(tmp_path, url):
    """Start the installations of a section side by side."""
    with ExitStack() as stack:

        def start(heading):
            made = []
            for number, document in enumerate(examples(heading)):
                directory = tmp_path / f"{number}"
                directory.mkdir()
                env = {"RLM_WORKERS__MAX": "1"}
                one = System(directory, document=document, redis_url=url, env=env)
                made.append(stack.enter_context(one))
            for one in made:
                one.start_both()
            return made

        yield start


def run_all(made):
    """Let each do a run, all at the same time; return the records."""
    runs = [one.ask_for_run() for one in made]
    return [one.await_record(run_id) for one, run_id in zip(made, runs, strict=True)]


def judge(made, records, pushed):
    """Check that each did exactly what was pushed to it."""
    for one, record, events in zip(made, records, pushed, strict=True):
        one.assert_promises(events, [record])
        assert set(one.answered()) == set(events)
        assert (record["counts"]["completed"], record["counts"]["leftover"]) == (len(events), 0)
        assert one.letters() == []


@pytest.mark.rest
def test_by_type_each_installation_does_the_events_of_its_types(split):
    """Items with events of both went to both, each with its own: the ids are the same, and no event is lost or twice.

    An event of a type that an installation does not have is a dead letter there.
    """
    made = split("How is it split by type?")

    pushed = [
        one.push({**make_item(f"a-{number}", one.types[0]), "events": one.types} for number in range(10))
        for one in made
    ]

    judge(made, run_all(made), pushed)
    first, second = made
    first.push([{**make_item("a-1", first.types[0]), "id": "b-1", "events": [first.types[0], second.types[0]]}])
    (record,) = run_all([first])
    assert record["counts"]["completed"] == 1
    assert [(one["reason"], one["event_id"]) for one in first.letters()] == [("unknown_type", f"b-1:{second.types[0]}")]


@pytest.mark.long
def test_by_account_each_installation_does_the_wallets_of_its_account(split):
    """By a hash of the wallet, so that the same event goes the same way each time; pushed twice it is done once."""
    made = split("How is it split by account?")
    items = [
        {**make_item(f"b-{number}", made[0].types[number % 2]), "wallet_name": f"w{number}"} for number in range(20)
    ]
    shares = [[one for one in items if zlib.crc32(one["wallet_name"].encode()) % 2 == number] for number in (0, 1)]

    pushed = [one.push(share) for one, share in zip(made, shares, strict=True)]
    for one, share in zip(made, shares, strict=True):
        one.push(share)

    assert all(pushed)
    judge(made, run_all(made), pushed)
