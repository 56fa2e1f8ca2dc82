"""`rlm endpoint`: list endpoints and budgets; pause, resume, limit or share them. `rlm compliance`: their calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from rlm.cli.common import duration, print_json, say, show, store_command, table
from rlm.core.text import counted

if TYPE_CHECKING:
    from rlm.core.documents import EndpointView
    from rlm.ledger.store import Store


@click.group()
def endpoint() -> None:
    """See the endpoints and budgets; pause, resume, change or share a limit."""


#: The arguments that choose endpoints and budgets.
_chosen = [
    click.Argument(["names"], metavar="[NAME]...", nargs=-1),
    click.Option(["--type", "type_name"], metavar="TYPE", help="All endpoints of this type."),
]


@store_command(
    "rlm endpoint pause rebalance_api balance_api --for 10m",
    "rlm endpoint pause 'overflow_*'    # quoted, or the shell reads the pattern",
    group=endpoint,
    params=[*_chosen, duration("--for seconds", "How long; without it, until resumed.")],
)
def pause(store: Store, seconds: float | None, **which: Any) -> None:
    """Send no new call to endpoints, or to any endpoint of a budget.

    NAME is an endpoint, a budget, or a pattern of endpoints (`*`, `?`). The others take their share. The pause applies
    at once, in an open run as well; calls under way are not cut. A later pause replaces an earlier one.
    """
    _change(store, partial(store.rules.pause, seconds=seconds), **which)


@store_command(
    "rlm endpoint resume rebalance_api",
    "rlm endpoint resume --type REBALANCE_NEEDED",
    group=endpoint,
    params=_chosen,
)
def resume(store: Store, **which: Any) -> None:
    """End a pause, or a rest that is due to an endpoint's answers.

    NAME is an endpoint, a budget, or a pattern of endpoints (`*`, `?`). If an endpoint was throttled or failing, its
    next call is a probe. It stays held while its window cannot be trusted.
    """
    _change(store, store.rules.resume, **which)


@store_command(
    "rlm endpoint limit rebalance_api 20/minute",
    'rlm endpoint limit rebalance_api "5/second; 1000/hour"',
    "rlm endpoint limit --type REBALANCE_NEEDED 20/minute  # each of them",
    group=endpoint,
    params=[*_chosen, click.Argument(["rate"], metavar="RATE")],
)
def limit(store: Store, rate: str, **which: Any) -> None:
    """Change the limit of endpoints or budgets to RATE, now.

    NAME is an endpoint, a budget, or a pattern of endpoints (`*`, `?`). RATE is written as in the file. It applies at
    once to the same window, which keeps its history: nothing is allowed twice. It holds until the file's value for it
    changes.
    """
    from rlm.admin.endpoints import check_rate

    _change(store, partial(store.rules.limit, limit=check_rate(rate)), **which)


def _change(store: Store, order: Callable[..., None], names: Sequence[str], type_name: str | None) -> None:
    """Give an order for each endpoint in turn, or for none if a name is unknown; show how they are then.

    The JSON is one document if exactly one was named, otherwise all of them under `endpoints`.
    """
    from rlm.admin.endpoints import choose_limited, health_beside, standing, who

    if not names and type_name is None:
        raise click.UsageError("Name endpoints or budgets, or --type; `rlm endpoint list` shows them.")
    chosen = choose_limited(store.settings, names, type_name)
    for limited in chosen:
        order(limited, by=who())
    _warn(store)
    views = standing(store)
    changed = [views[limited.name] for limited in chosen]
    print_json(changed[0] if [each.name for each in changed] == [*names][:1] else {"endpoints": changed})
    for each in changed:
        show(f"Done: {each.name} is {each.health} {health_beside(each)}".rstrip() + f"; its limit is {each.limit}.")


def _warn(store: Store) -> None:
    """Say whether runs go by another configuration, in which a name may be another URL."""
    from rlm.admin.conditions import examined

    for condition in examined(store, whole=False).get("configuration", ()):
        say(f"Warning: {condition.sentence}: {condition.remedy}.")


@store_command("rlm endpoint share rebalance_api", group=endpoint, params=[click.Argument(["name"], metavar="NAME")])
def share(store: Store, name: str) -> None:
    """Show how another program shares the limit of an endpoint.

    It needs the package `rlm` and its library `limits`. The limit in force holds for both together.
    """
    from rlm.admin import endpoints

    shared = endpoints.share(store, name)
    _warn(store)
    print_json(shared)
    show(f"{name} has the limit {shared.limit} and the URL {shared.url}.")
    show("A Python program with the package `rlm` that takes a slot before each of its calls keeps it with RLM:\n")
    show("\n".join(shared.lines))


@store_command("rlm endpoint list --json | jq '.[] | select(.health != \"ok\")'", name="list", group=endpoint)
def list_endpoints(store: Store) -> None:
    """List endpoints and budgets: limit, calls used and free, when the next slot is free, health.

    A limit that was set by hand, by whom and when is shown, holds until the file's value for it changes.
    """
    from rlm.admin.endpoints import endpoint_list

    entries = endpoint_list(store)
    print_json(entries)
    endpoint_table(entries)


def endpoint_table(entries: Iterable[EndpointView]) -> None:
    """Print endpoints and budgets: their windows and their health."""
    from rlm.admin.endpoints import health_beside
    from rlm.admin.words import next_slot

    styles = {"ok": "green", "full": "green", "resting": "red", "held": "red"}
    rows = [
        [each.name, of, each.limit, by, each.used, each.free, next_slot(each), each.failures, (health, style)]
        for each in entries
        for of in [f"budget of {counted(len(each.types), 'type')}" if each.kind == "budget" else ", ".join(each.types)]
        for by in [
            " ".join(filter(None, (each.limit_by or "unknown", each.limit_at if each.limit_by != "file" else "")))
        ]
        for health, style in [(f"{each.health} {health_beside(each)}", styles.get(each.health, "yellow"))]
    ]
    table("name|of|limit|set by|#used|#free|#next|#failures|health", rows)


@store_command(
    "rlm compliance",
    "rlm compliance --since 2d --json | jq .ok",
    params=[duration("--since", "How far to look back.", "24h")],
)
def compliance(store: Store, since: float) -> None:
    """Show the most calls in any period, by endpoint and budget, against its limit. Exits with 1 if one was exceeded.

    Counts the calls that RLM sent, when it sent them by the clock of Redis, not what a server read.
    """
    from rlm.admin import endpoints as sent

    log = sent.compliance(store, since)
    print_json(log)
    rows = [
        [name, calls.calls, rule.most, rule.amount, rule.period_seconds, rule.at, verdict, calls.since]
        for name, calls in log.by_endpoint.items()
        for rule in calls.rules
        for verdict in [("EXCEEDED", "bold red") if rule.exceeded else ("ok", "green")]
    ]
    table("endpoint or budget|#calls|#most|#of|#in any|last call of those|verdict|since", rows)
    exceeded = f"EXCEEDED since {log.since}: {', '.join(sent.exceeded(log))}."
    show(f"\nNo limit was exceeded since {log.known_from}, or since it was set." if log.ok else f"\n{exceeded}")
    if unknown := sent.gap(log):
        show(unknown)
    if not log.ok:
        raise SystemExit(1)
