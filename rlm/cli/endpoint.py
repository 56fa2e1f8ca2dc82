"""`rlm endpoint`: list endpoints and budgets; pause, resume, limit or share them in the live system."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from rlm.cli.common import command, store_of
from rlm.cli.options import Duration
from rlm.cli.printing import print_json, say, show, show_words, styled, table
from rlm.core.errors import StoreError
from rlm.core.text import counted, span

if TYPE_CHECKING:
    from rlm.core.documents import EndpointView, LimitChanged, Paused, Resumed
    from rlm.core.endpoint import Limited
    from rlm.ledger.store import Store

_View = TypeVar("_View", "EndpointView", "LimitChanged", "Paused", "Resumed")

#: The style of each health; any other health is a warning.
_LOOKS = {"ok": "ok", "full": "ok", "resting": "error", "held": "error"}


@click.group()
def endpoint() -> None:
    """See the endpoints and budgets; pause, resume, change or share a limit."""


_names_argument = click.argument("names", metavar="[NAME]...", nargs=-1)
_reason_option = click.option("--reason", metavar="TEXT", default="", help="Why; kept with the change.")
_type_option = click.option("--type", "type_name", metavar="TYPE", help="All endpoints of this type.")


@command(
    "rlm endpoint pause rebalance_api",
    "rlm endpoint pause rebalance_api balance_api --for 10m",
    "rlm endpoint pause 'overflow_*'    # quoted, or the shell reads the pattern",
    name="pause",
    group=endpoint,
)
@_names_argument
@_type_option
@click.option(
    "--for",
    "seconds",
    type=Duration(longest=366 * 86_400.0),
    metavar="DURATION",
    help=("How long; without it, until resumed."),
)
@_reason_option
def pause_endpoints(
    *, config: Path | None, names: tuple[str, ...], type_name: str | None, seconds: float | None, reason: str
) -> None:
    """Send no new call to endpoints, or to any endpoint of a budget.

    NAME is an endpoint, a budget, or a pattern of endpoints (`*`, `?`). The others take their share. The
    pause applies at once, in an open run as well; calls under way are not cut. A later pause replaces an earlier one.
    """
    from rlm.admin.endpoints import pause

    changed = _change(config, names, type_name, partial(pause, seconds=seconds, reason=reason))
    are, them = ("is", "it") if len(changed) == 1 else ("are", "them")
    paused = [one.name for one in changed]
    by_hand = f"`rlm endpoint resume {' '.join(paused)}`"
    until = by_hand if seconds is None else f"{span(seconds)} have passed, or `rlm endpoint resume`"
    show_words(f"{', '.join(paused)} {are} paused until {until}.")
    show_words(f"Calls under way are not cut; no new one is sent to {them}.")


@command(
    "rlm endpoint resume rebalance_api", "rlm endpoint resume --type REBALANCE_NEEDED", name="resume", group=endpoint
)
@_names_argument
@_type_option
@_reason_option
def resume_endpoints(config: Path | None, names: tuple[str, ...], type_name: str | None, reason: str) -> None:
    """End a pause, or a rest that is due to an endpoint's answers.

    NAME is an endpoint, a budget, or a pattern of endpoints (`*`, `?`). If an endpoint was throttled or
    failing, its next call is a probe. A rest because its window cannot be trusted continues: what was sent is not
    known, so a limit might be exceeded.
    """
    from rlm.admin.endpoints import resume

    changed = _change(config, names, type_name, partial(resume, reason=reason))
    for told, alike in names_alike(changed, "paused", "rested", "probing"):
        if alike.paused:
            show_words(f"No longer paused: {told}.")
        if alike.rested:
            show_words(f"No longer resting; the next call is a probe: {told}.")
        if alike.probing and not alike.rested:
            show_words(f"The rest is already over; the next call is a probe: {told}.")
        elif not alike.paused and not alike.rested:
            show_words(f"Neither paused nor resting, so nothing was changed: {told}.")
    for one in changed:
        if (held := one.held_seconds) > 0:
            show_words(f"{one.name} is held for another {span(held)}: its window cannot be trusted until then.")


@command(
    "rlm endpoint limit rebalance_api 20/minute",
    'rlm endpoint limit rebalance_api "5/second; 1000/hour"',
    "rlm endpoint limit --type REBALANCE_NEEDED 20/minute  # each of them",
    name="limit",
    group=endpoint,
)
@_names_argument
@click.argument("rate", metavar="RATE")
@_type_option
@_reason_option
def limit_endpoints(
    *, config: Path | None, names: tuple[str, ...], rate: str, type_name: str | None, reason: str
) -> None:
    """Change the limit of endpoints or budgets to RATE, now.

    NAME is an endpoint, a budget, or a pattern of endpoints (`*`, `?`). RATE is written as in the file:
    "20/minute", "5/second; 1000/hour". It applies at once to the same window, which keeps its history: nothing is
    allowed twice. It holds until the file's value for it changes.
    """
    from rlm.admin.endpoints import check_rate, limit

    rate = check_rate(rate)
    changed = _change(config, names, type_name, partial(limit, rate=rate, reason=reason))
    for told, alike in names_alike(changed, "before"):
        if alike.before == rate:
            show_words(f"The limit of {told} was {rate} already; nothing was changed.")
        else:
            now = f"is {rate} from now on, for the calls already made as well"
            show_words(f"The limit of {told} was {alike.before} and {now}.")
    if any(one.before != rate for one in changed):
        holds = "It holds" if len(changed) == 1 else "They hold"
        show_words(f"{holds} until the file's value changes; `rlm endpoint list` shows who set it.")


@command("rlm endpoint share rebalance_api", name="share", group=endpoint)
@click.argument("name", metavar="NAME")
def share_endpoint(config: Path | None, name: str) -> None:
    """Show how another program shares the limit of an endpoint.

    It needs the package `rlm` and its library `limits`. The limit in force holds for both together.
    """
    from rlm.admin.endpoints import share

    with store_of(config) as store:
        shared = share(store, name)
    print_json(shared)
    show_words(f"{name} has the limit {shared.limit} and the URL {shared.url}.")
    show_words("A Python program with the package `rlm` that takes a slot before each of its calls keeps it with RLM:")
    show()
    for line in shared.lines:
        show(line)


def names_alike(entries: Iterable[_View], *keys: str) -> list[tuple[str, _View]]:
    """Group entries that agree in `keys`; return the names of each group with its last entry."""
    alike: dict[tuple[object, ...], list[_View]] = {}
    for entry in entries:
        alike.setdefault(tuple(getattr(entry, key) for key in keys), []).append(entry)
    return [(", ".join(entry.name for entry in group), group[-1]) for group in alike.values()]


def _change(
    config: Path | None,
    names: Sequence[str],
    type_name: str | None,
    change: Callable[[Store, Limited, str], _View],
) -> list[_View]:
    """Change each endpoint in turn, or none if a name is unknown; return the results of `change`.

    The JSON is one document if exactly one was named, otherwise all of them under `endpoints`.
    """
    from rlm.admin.endpoints import choose_limited, who

    if not names and type_name is None:
        raise click.UsageError("Name endpoints or budgets, or --type; `rlm endpoint list` shows them.")
    changed: list[_View] = []
    with store_of(config) as store:
        for one in choose_limited(store.settings, names, type_name):
            try:
                changed.append(change(store, one, who()))
            except StoreError:
                if changed:
                    done = ", ".join(each.name for each in changed)
                    say(f"{counted(len(changed), 'change')} had been made before this: {done}.")
                raise
    alone = [one.name for one in changed] == list(names)
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
    healths = {entry.name: entry.health for entry in entries}
    rows = [_row(entry, healths) for entry in entries]
    table(headings, rows, right=["used", "free", "next", "failures"])
    by_hand = [entry for entry in entries if entry.limit_by != "file"]
    if by_hand:
        show()
    for names, alike in names_alike(by_hand, "limit", "limit_by"):
        by, told = alike.limit_by, "is not what the file has; no record is kept of who set it"
        if by is not None:
            told = f"was set by {by} at {alike.limit_at} and holds until the file's value for it changes"
        show_words(f"{names}: {alike.limit} {told}.")


def _row(entry: EndpointView, healths: Mapping[str, str]) -> list[object]:
    from rlm.admin.endpoints import health_beside

    wait = entry.next_slot_seconds
    budget_health = healths.get(entry.budget or "", "ok")
    told = "" if budget_health == "ok" else f"; its budget {entry.budget} is {budget_health}"
    of = f"budget of {counted(len(entry.types), 'type')}" if entry.kind == "budget" else ", ".join(entry.types)
    at = "now" if wait == 0 else span(wait)
    calls = [entry.limit, entry.used, entry.free, at, entry.failures]
    health = f"{styled(entry.health, _LOOKS.get(entry.health, 'warn'))} {health_beside(entry)}".rstrip()
    return [entry.name, of, *calls, health + told]
