"""`rlm explain`: where one event is, why it waited, and each attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rlm.cli.common import command, store_of
from rlm.cli.printing import is_terminal, print_json, short_time, show, show_words, table
from rlm.core.text import counted, one_line, span

if TYPE_CHECKING:
    from pathlib import Path

#: The most characters of an answer in the list.
ANSWER_WIDTH = 80


@command(
    "rlm explain a-1                     # all events of an item",
    "rlm explain a-1:REBALANCE_NEEDED    # one of them",
    "rlm explain wallet_001              # which events of a wallet there are",
)
@click.argument("event", metavar="EVENT")
def explain(config: Path | None, event: str) -> None:
    """Show where one event is, what it waits for, and each attempt with its endpoint, time and answer.

    EVENT is an event id, ITEM:TYPE, or the id of an item, which stands for all its events. The name of a wallet, if no
    item has it for its id, lists the events of it that are under way, wait or are dead letters. What is settled is
    known for queue.dedupe_seconds. On the audit list the 100,000 oldest items are looked at. Exits with 3 where it is
    not known.
    """
    from rlm.admin.explain import explanation

    with store_of(config) as store:
        found = explanation(store, event)
    print_json(found)
    if "found" in found:
        _list_events(found)
        return
    for index, one in enumerate(found.get("events", [found])):
        if index:
            show()
        _describe(one)


def _list_events(of_wallet: dict[str, Any]) -> None:
    rows = [
        [one["event_id"], one["state"].replace("_", " "), one["since"] or "-", one["letter"]]
        for one in of_wallet["found"]
    ]
    table(["event", "state", "since", "dead letter"], rows, right=(), spare=["dead letter"])
    show()
    show_words(f"{counted(len(rows), 'event')} of this wallet; `rlm explain EVENT` tells of one.")
    if of_wallet["more"]:
        show_words("There may be more: `rlm queue list --wallet NAME` and `rlm failed list --search NAME` go on.")


def _describe(one: dict[str, Any]) -> None:
    show_words(f"{one['sentence']}.")
    if one["letter"]:
        show_words(f"`rlm failed show {one_line(one['letter']['id'], ANSWER_WIDTH)}` shows the letter.")
    if one["taken_at"]:
        parts = [f"claimed {_times(one['releases'])}"]
        parts += [f"given back without a call {_times(one['given_back'])}"] if one["given_back"] else []
        parts += [f"lost by {counted(one['deaths'], 'worker')} that died or froze"] if one["deaths"] else []
        run = f" in run {one['taken_in']}" if one["taken_in"] else ""
        show_words(f"Taken {_when(one['taken_at'])}{run}: {', '.join(parts)}.")
    if one["attempts"]:
        show()
        _list_attempts(one)
    if one["endpoints"]:
        show()
        rows = [
            [
                each["endpoint"],
                each["health"] + (f" ({each['budget']})" if each["budget"] else ""),
                f"{each['free']:,}",
                "until resumed" if each["wait_seconds"] is None else span(each["wait_seconds"]),
            ]
            for each in one["endpoints"]
        ]
        table(["endpoint", "health", "free slots", "next in"], rows, right=["free slots", "next in"])


def _times(number: int) -> str:
    return {0: "not yet", 1: "once", 2: "twice"}.get(number, f"{number:,} times")


def _list_attempts(one: dict[str, Any]) -> None:
    from rlm.admin.explain.words import took

    attempts = one["attempts"]
    if one["calls"] > len(attempts):
        show_words(f"The newest {len(attempts):,} of {counted(one['calls'], 'call')}:")
    rows = [
        [
            each["attempt"],
            _when(each["at"]),
            each["endpoint"] or "-",
            each["answer"],
            took(each) or "-",
            one_line(each["text"], ANSWER_WIDTH),
            each["host"] or "-",
        ]
        for each in attempts
    ]
    headings = ["attempt", "ended", "endpoint", "answer", "took", "in words", "host"]
    table(headings, rows, right=["attempt", "took"], spare=["host", "answer"])


def _when(moment: str) -> str:
    """Shorten a time on a terminal, even if the table has room for all of it: all tables look the same."""
    return short_time(moment) if is_terminal() else moment
