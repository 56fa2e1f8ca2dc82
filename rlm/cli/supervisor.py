"""`rlm supervisor`: be the supervisor of this host; which hosts there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rlm.cli.common import Group, command, examples, store_of
from rlm.cli.options import STANDARD, log_format_option, volatile_option
from rlm.cli.printing import is_terminal, print_json, show_words, styled, table
from rlm.core.text import one_line

if TYPE_CHECKING:
    from pathlib import Path

#: The most characters of a host's name on a terminal.
_LONGEST_HOST = 24
_LOOKS = {"ready": "ok", "draining": "warn", "lost": "bad"}


@click.group(
    cls=Group,
    invoke_without_command=True,
    subcommand_metavar="[COMMAND]",
    epilog=examples("rlm supervisor", "rlm supervisor --config /etc/rlm/rlm.toml", "rlm supervisor list"),
)
@volatile_option
@log_format_option
@click.pass_context
def supervisor(ctx: click.Context, config: Path | None, allow_volatile: bool) -> None:
    """Keep the wanted number of workers alive on this host. TERM lets calls in flight end; a second TERM does not.

    With a command: see the hosts, of which each has a supervisor.
    """
    if ctx.invoked_subcommand is not None:
        if config is not None or allow_volatile:
            raise click.UsageError("Options go behind the command.", ctx)
        return
    from rlm.cli.processes import supervise
    from rlm.processes import signals
    from rlm.processes.alive import AliveFile
    from rlm.settings import load_settings

    wakeup = signals.Wakeup(AliveFile().touch)
    with signals.StopSignals(wakeup) as stop:
        supervise(load_settings(config), wakeup, stop, allow_volatile=allow_volatile)


supervisor.params += STANDARD


@command("rlm supervisor list", "rlm supervisor list --json | jq '.[].state'", name="list", group=supervisor)
def list_hosts(config: Path | None) -> None:
    """List the hosts: state, capacity, share of the workers wanted, workers, busy lanes, scheduler, last heard of."""
    from rlm.admin.hosts import hosts

    with store_of(config) as store:
        entries = hosts(store)
    print_json(entries)
    if not entries:
        show_words("No host is known: no supervisor and no scheduler runs. `rlm up` or `rlm supervisor` starts one.")
        return
    names = ["host", "state", "capacity", "share", "workers", "busy", "scheduler", "version", "heard", "labels"]
    table(names, [_row(one) for one in entries], right=names[2:6], spare=["labels", "version", "heard"])
    for one in entries:
        if one["why"]:
            show_words(f"{one['host']}: {one['why']}.")


def _versions(entry: dict[str, Any]) -> object:
    told = ", ".join(entry["versions"])
    return styled(f"{told} (behind)", "warn") if entry["behind"] else told or None


def _row(entry: dict[str, Any]) -> list[object]:
    heard = entry["heard_seconds"]
    return [
        one_line(entry["host"], _LONGEST_HOST) if is_terminal() else entry["host"],
        styled(entry["state"], _LOOKS.get(entry["state"], "warn")),
        entry["capacity"],
        entry["share"],
        entry["workers"],
        f"{entry['busy']}/{entry['lanes']}",
        entry["scheduler"],
        _versions(entry),
        None if heard is None else f"{heard:.1f} s ago",
        ", ".join(f"{name}={value}" for name, value in entry["labels"].items()) or None,
    ]
