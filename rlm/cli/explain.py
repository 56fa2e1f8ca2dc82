"""`rlm explain`: where one event is, why it waited, and each attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rlm.cli.common import examples, store_of
from rlm.cli.options import config_option, json_option
from rlm.cli.printing import is_terminal, print_json, short_time, show, show_words, table
from rlm.core.errors import NoSuchRunError
from rlm.core.text import counted, one_line, span
from rlm.core.trail import CallEnd

if TYPE_CHECKING:
    from pathlib import Path

#: The most characters of an answer in the list.
ANSWER_WIDTH = 80


@click.command(
    epilog=examples(
        "rlm explain a-1                     # all events of an item",
        "rlm explain a-1:REBALANCE_NEEDED    # one of them",
        "rlm explain wallet_001              # which events of a wallet there are",
    )
)
@click.argument("event", metavar="EVENT")
@config_option
@json_option
def explain(config: Path | None, event: str, as_json: bool) -> None:
    """Show where one event is, what it waits for, and each attempt with its endpoint, time and answer.

    EVENT is an event id, ITEM:TYPE, or the id of an item, which stands for all its events. The name of a wallet, if no
    item has it for its id, lists the events of it that are under way, wait or are dead letters. What is settled is
    known for queue.dedupe_seconds. On the audit list the 100,000 oldest items are looked at. Exits with 3 where it is
    not known.
    """
    from rlm.admin.explain import events_of_wallet
    from rlm.admin.explain import explain as tell

    with store_of(config) as store:
        try:
            found = tell(store, event)
        except NoSuchRunError:
            of_wallet = events_of_wallet(store, event.encode("utf-8", "backslashreplace").decode())
            if not event or not of_wallet["found"]:
                raise
            print_json(of_wallet) if as_json else _list_events(of_wallet)
            return
    if as_json:
        alone = len(found) == 1 and found[0]["event_id"] == event
        print_json(found[0] if alone else {"item_id": event, "events": found})
        return
    for index, one in enumerate(found):
        if index:
            show()
        _describe(one)


def _list_events(of_wallet: dict[str, Any]) -> None:
    rows = [
        [one["event_id"] or "-", one["state"].replace("_", " "), one["since"] or "-", one["letter"] or "-"]
        for one in of_wallet["found"]
    ]
    table(["event", "state", "since", "dead letter"], rows, lambda _index: False, spare=["dead letter"])
    show()
    show_words(f"{counted(len(rows), 'event')} of this wallet; `rlm explain EVENT` tells of one.")
    if of_wallet["more"]:
        show_words("There may be more: `rlm queue list --wallet NAME` and `rlm failed list --search NAME` go on.")


def _describe(one: dict[str, Any]) -> None:
    show_words(f"{one['sentence']}.")
    if one["letter"]:
        show_words(f"`rlm failed show {one_line(one['letter']['id'], ANSWER_WIDTH)}` shows the letter.")
    if one["taken_at"]:
        show_words(_so_far(one))
    if one["attempts"]:
        show()
        _list_attempts(one)
    if one["endpoints"]:
        show()
        _list_endpoints(one["endpoints"])


def _so_far(one: dict[str, Any]) -> str:
    parts = [f"claimed {_times(one['releases'])}"]
    if one["given_back"]:
        parts.append(f"given back without a call {_times(one['given_back'])}")
    if one["deaths"]:
        parts.append(f"lost by {counted(one['deaths'], 'worker')} that died or froze")
    taken = f"Taken {_when(one['taken_at'])}{' in run ' + one['taken_in'] if one['taken_in'] else ''}"
    return f"{taken}: {', '.join(parts)}."


def _times(number: int) -> str:
    return {0: "not yet", 1: "once", 2: "twice"}.get(number, f"{number:,} times")


def _list_attempts(one: dict[str, Any]) -> None:
    attempts = one["attempts"]
    if one["calls"] > len(attempts):
        show_words(f"The newest {len(attempts):,} of {counted(one['calls'], 'call')}:")
    rows = [
        [
            str(each["attempt"]),
            _when(each["at"]),
            each["endpoint"] or "-",
            each["answer"],
            _took(each),
            one_line(each["text"], ANSWER_WIDTH),
            each["host"] or "-",
        ]
        for each in attempts
    ]
    headings = ["attempt", "ended", "endpoint", "answer", "took", "in words", "host"]
    table(headings, rows, lambda index: index in {0, 4}, spare=["host", "answer"])


def _when(moment: str) -> str:
    """Shorten a time on a terminal, even if the table has room for all of it: all tables look the same."""
    return short_time(moment) if is_terminal() else moment


def _took(attempt: dict[str, Any]) -> str:
    """Return how long the answer took, or `no answer` for a call that is known to have ended without one."""
    if attempt["seconds"] is None:
        return "-" if attempt["answer"] == CallEnd.UNKNOWN else "no answer"
    return f"{attempt['seconds']:.2f} s"


def _list_endpoints(endpoints: list[dict[str, Any]]) -> None:
    rows = [
        [
            each["endpoint"],
            each["health"] + (f" ({each['budget']})" if each["budget"] else ""),
            f"{each['free']:,}",
            "until resumed" if each["wait_seconds"] is None else span(each["wait_seconds"]),
        ]
        for each in endpoints
    ]
    table(["endpoint", "health", "free slots", "next in"], rows, lambda index: index > 1)
