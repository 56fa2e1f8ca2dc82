"""`rlm supervisor`: run the supervisor of this host; list the hosts; take one out of service and back in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rlm.cli.common import Group, command, examples, settings_of, stop_signals, store_of
from rlm.cli.options import STANDARD, process_options
from rlm.cli.printing import print_json, short_host, show_words, styled, table
from rlm.core.text import counted

_LOOKS = {"ready": "ok", "unsupervised": "ok", "draining": "warn", "cut off": "warn", "silent": "warn", "lost": "error"}
#: Seconds between two looks of `--wait` whether a worker is left.
_LOOK_SECONDS = 0.25


@click.group(
    cls=Group,
    invoke_without_command=True,
    subcommand_metavar="[COMMAND]",
    epilog=examples(
        "rlm supervisor",
        "rlm supervisor --config /etc/rlm/rlm.toml",
        "rlm supervisor list",
        'rlm supervisor drain --wait --reason "reboot"',
    ),
)
@process_options
@click.pass_context
def supervisor(ctx: click.Context, config: Path | None, allow_volatile: bool) -> None:
    """Keep the wanted number of workers alive on this host. TERM lets calls in flight end; a second TERM does not.

    With a command: see the hosts, each of which has a supervisor; take one out of service.
    """
    if ctx.invoked_subcommand is not None:
        if config is not None or allow_volatile:
            raise click.UsageError("Options go after the command.", ctx)
        return
    from rlm.cli.processes import supervise, warm_template
    from rlm.processes.alive import AliveFile

    with stop_signals(AliveFile().touch) as stop:
        settings = settings_of(config)
        with warm_template(settings) as template:
            supervise(template, settings, stop, allow_volatile=allow_volatile)


supervisor.params += STANDARD


@command("rlm supervisor list", "rlm supervisor list --json | jq '.[].state'", name="list", group=supervisor)
def list_hosts(config: Path | None) -> None:
    """List the hosts: state, capacity, share of the workers wanted, workers, busy lanes, scheduler, last heard from."""
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


@command(
    "rlm supervisor drain                            # this host, before a reboot",
    'rlm supervisor drain web-2 --wait --reason "new disk"',
    "rlm supervisor drain web-2 --off",
    name="drain",
    group=supervisor,
)
@click.argument("host", required=False)
@click.option("--off", is_flag=True, help="Give the host its share of the workers again.")
@click.option("--wait", is_flag=True, help="Return when no worker is left on it.")
@click.option("--reason", metavar="TEXT", default="", help="Why; kept with the order.")
def drain_host(*, config: Path | None, host: str | None, off: bool, wait: bool, reason: str) -> None:
    """Take HOST, by default this one, out of service: it gets no share of the workers; others take it over.

    Its workers finish their calls. The order holds, even across restarts, until it is taken back with `--off`; `rlm
    supervisor list` shows it, and `rlm orders` shows who gave it. A scheduler on the host keeps running.
    """
    from rlm.admin.endpoints import who
    from rlm.admin.hosts import drain, workers_on
    from rlm.core.clock import system_clock

    if off and wait:
        raise click.UsageError("--wait waits for a host to be drained; it does not go with --off.")
    with store_of(config) as store:
        name = host or store.settings.host_name
        done = drain(store, name, who(), reason, off=off)
        _show_ordered(done)
        while wait and (left := workers_on(store, name)):
            done["workers"] = left
            system_clock.sleep(_LOOK_SECONDS)
    if wait:
        done["workers"] = 0
        show_words(f"No worker is left on {name}.")
    print_json(done)


def _show_ordered(done: dict[str, Any]) -> None:
    name = done["host"]
    if not done["drained"]:
        show_words(f"{name} takes its share again." if done["changed"] else f"{name} was not drained.")
        return
    how = "takes no share of the workers any more" if done["changed"] else "was drained already"
    show_words(f"{name} {how}; what it has in hand is finished ({counted(done['workers'], 'worker')}).")
    if not done["left"]:
        show_words("No host takes workers now: nothing is sent until one does.")
    show_words(f"It holds until `rlm supervisor drain {name} --off`.")


@command("rlm supervisor forget web-2", name="forget", group=supervisor)
@click.argument("host")
def forget_host(config: Path | None, host: str) -> None:
    """Forget HOST, a lost host that does not come back, or not soon.

    A host is lost if it is not heard from and did not sign off. It is forgotten by itself after a day. When it comes
    back, it is listed as before.
    """
    from rlm.admin.endpoints import who
    from rlm.admin.hosts import forget

    with store_of(config) as store:
        done = forget(store, host, who())
    print_json(done)
    show_words(f"{host} is forgotten.")


def _row(entry: dict[str, Any]) -> list[object]:
    heard, versions = entry["heard_seconds"], ", ".join(entry["versions"])
    return [
        short_host(entry["host"]),
        styled(entry["state"], _LOOKS[entry["state"]]),
        entry["capacity"],
        entry["share"],
        entry["workers"],
        f"{entry['busy']}/{entry['lanes']}",
        entry["scheduler"],
        versions or None,
        None if heard is None else f"{heard:.1f} s ago",
        ", ".join(f"{name}={value}" for name, value in entry["labels"].items()) or None,
    ]
