"""`rlm endpoint`: list endpoints and budgets; pause, resume, limit or share them in the live system."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rlm.cli.common import command, store_of
from rlm.cli.options import Duration, all_of
from rlm.cli.printing import print_json, say, show, styled, table
from rlm.core.errors import StoreError
from rlm.core.text import counted, span

if TYPE_CHECKING:
    from rlm.core.documents import EndpointView, LimitChanged, Paused, Resumed
    from rlm.core.endpoint import Limited
    from rlm.ledger.store import Store

_View = TypeVar("_View", "LimitChanged", "Paused", "Resumed")


@click.group()
def endpoint() -> None:
    """See the endpoints and budgets; pause, resume, change or share a limit."""


#: The arguments that choose endpoints and budgets.
chosen = all_of(
    click.argument("names", metavar="[NAME]...", nargs=-1),
    click.option("--type", "type_name", metavar="TYPE", help="All endpoints of this type."),
)


@command(
    "rlm endpoint pause rebalance_api",
    "rlm endpoint pause rebalance_api balance_api --for 10m",
    "rlm endpoint pause 'overflow_*'    # quoted, or the shell reads the pattern",
    group=endpoint,
)
@chosen
@click.option(
    "--for",
    "seconds",
    type=Duration(longest=366 * 86_400.0),
    metavar="DURATION",
    help="How long; without it, until resumed.",
)
def pause(config: Path | None, seconds: float | None, **which: Any) -> None:
    """Send no new call to endpoints, or to any endpoint of a budget.

    NAME is an endpoint, a budget, or a pattern of endpoints (`*`, `?`). The others take their share. The pause applies
    at once, in an open run as well; calls under way are not cut. A later pause replaces an earlier one.
    """
    from rlm.admin import endpoints

    changed = _change(config, partial(endpoints.pause, seconds=seconds), **which)
    until = "it is resumed" if seconds is None else f"{span(seconds)} have passed, or it is resumed"
    for each in changed:
        show(f"{each.name} is paused until {until}; calls under way are not cut.")


@command("rlm endpoint resume rebalance_api", "rlm endpoint resume --type REBALANCE_NEEDED", group=endpoint)
@chosen
def resume(config: Path | None, **which: Any) -> None:
    """End a pause, or a rest that is due to an endpoint's answers.

    NAME is an endpoint, a budget, or a pattern of endpoints (`*`, `?`). If an endpoint was throttled or failing, its
    next call is a probe. A rest because its window cannot be trusted continues: what was sent is not known, so a limit
    might be exceeded.
    """
    from rlm.admin import endpoints

    for each in _change(config, endpoints.resume, **which):
        ended = [word for word, was in (("paused", each.paused), ("resting", each.rested)) if was]
        probe = "; its next call is a probe" if each.rested or each.probing else ""
        what = f"is no longer {' or '.join(ended)}" if ended else "was neither paused nor resting"
        show(f"{each.name} {what}{probe}.")
        if each.held_seconds > 0:
            show(f"{each.name} is held for another {span(each.held_seconds)}: its window cannot be trusted until then.")


@command(
    "rlm endpoint limit rebalance_api 20/minute",
    'rlm endpoint limit rebalance_api "5/second; 1000/hour"',
    "rlm endpoint limit --type REBALANCE_NEEDED 20/minute  # each of them",
    group=endpoint,
)
@chosen
@click.argument("rate", metavar="RATE")
def limit(config: Path | None, rate: str, **which: Any) -> None:
    """Change the limit of endpoints or budgets to RATE, now.

    NAME is an endpoint, a budget, or a pattern of endpoints (`*`, `?`). RATE is written as in the file: "20/minute",
    "5/second; 1000/hour". It applies at once to the same window, which keeps its history: nothing is allowed twice. It
    holds until the file's value for it changes.
    """
    from rlm.admin import endpoints

    rate = endpoints.check_rate(rate)
    for each in _change(config, partial(endpoints.limit, rate=rate), **which):
        if each.before == rate:
            show(f"The limit of {each.name} was {rate} already; nothing was changed.")
        else:
            show(f"The limit of {each.name} was {each.before} and is {rate} now, for the calls already made as well.")


@command("rlm endpoint share rebalance_api", group=endpoint)
@click.argument("name", metavar="NAME")
def share(config: Path | None, name: str) -> None:
    """Show how another program shares the limit of an endpoint.

    It needs the package `rlm` and its library `limits`. The limit in force holds for both together.
    """
    from rlm.admin import endpoints

    with store_of(config) as store:
        shared = endpoints.share(store, name)
    print_json(shared)
    show(f"{name} has the limit {shared.limit} and the URL {shared.url}.")
    show("A Python program with the package `rlm` that takes a slot before each of its calls keeps it with RLM:\n")
    for line in shared.lines:
        show(line)


def _change(
    config: Path | None,
    change: Callable[[Store, Limited, str], _View],
    *,
    names: Sequence[str],
    type_name: str | None,
) -> list[_View]:
    """Change each endpoint in turn, or none if a name is unknown; return the results of `change`.

    The JSON is one document if exactly one was named, otherwise all of them under `endpoints`.
    """
    from rlm.admin.endpoints import choose_limited, who

    if not names and type_name is None:
        raise click.UsageError("Name endpoints or budgets, or --type; `rlm endpoint list` shows them.")
    changed: list[_View] = []
    with store_of(config) as store:
        for limited in choose_limited(store.settings, names, type_name):
            try:
                changed.append(change(store, limited, who()))
            except StoreError:
                if changed:
                    say(f"Changed before this: {', '.join(each.name for each in changed)}.")
                raise
    alone = [each.name for each in changed] == list(names)
    print_json(changed[0] if alone and len(changed) == 1 else {"endpoints": changed})
    return changed


@command(
    "rlm endpoint list", "rlm endpoint list --json | jq '.[] | select(.health != \"ok\")'", name="list", group=endpoint
)
def list_endpoints(config: Path | None) -> None:
    """List endpoints and budgets: limit, calls used and free, health.

    Next is when a slot is free; "-" means paused until resumed.
    """
    from rlm.admin.endpoints import endpoint_list

    with store_of(config) as store:
        entries = endpoint_list(store)
    print_json(entries)
    headings = ["name", "of", "limit", "used", "free", "next", "failures", "health"]
    table(headings, map(_row, entries), right=["used", "free", "next", "failures"])
    for entry in entries:
        if entry.limit_by != "file":
            by = f"{entry.limit_by} at {entry.limit_at}" if entry.limit_by else "nobody knows whom"
            show(f"{entry.name}: {entry.limit} was set by {by} and holds until the file's value for it changes.")


def _row(entry: EndpointView) -> list[object]:
    from rlm.admin.endpoints import health_beside

    of = f"budget of {counted(len(entry.types), 'type')}" if entry.kind == "budget" else ", ".join(entry.types)
    at = "now" if entry.next_slot_seconds == 0 else span(entry.next_slot_seconds)
    looks = {"ok": "ok", "full": "ok", "resting": "error", "held": "error"}
    health = f"{styled(entry.health, looks.get(entry.health, 'warn'))} {health_beside(entry)}".rstrip()
    return [entry.name, of, entry.limit, entry.used, entry.free, at, entry.failures, health]
