"""Everything that is not well, as a list of conditions: found here, and shown as it is.

Each code has one severity, one sentence and one remedy, in one table.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from rlm.admin.attendance import leader, no_scheduler, nobody_sends, other_configurations
from rlm.admin.hosts import HostState
from rlm.core.clock import isoformat
from rlm.core.documents import Condition, EndpointView, Host
from rlm.core.text import counted
from rlm.core.window import Circuit
from rlm.ledger.fitness import Finding
from rlm.ledger.processes import Role
from rlm.ledger.reading.present import Present
from rlm.ledger.store import Store
from rlm.processes.alive import entry_of


class _Kind(NamedTuple):
    severity: Literal["info", "warning", "error"]
    sentence: str
    remedy: str


_KINDS: Final = {
    "redis_unfit": _Kind("error", "Redis is not fit: {what}", "{remedy}"),
    "no_scheduler": _Kind("error", "{what}", "`rlm up` or `rlm scheduler` starts one"),
    "no_worker": _Kind(
        "error", "{what}", "`rlm up` or `rlm supervisor` starts workers; `rlm doctor` names who does not"
    ),
    "other_configuration": _Kind(
        "warning", "{what}", "give all processes one configuration, and restart those that use {subject}"
    ),
    "host_silent": _Kind("warning", "host {subject}: {what}", "look at the supervisor on {subject}, or start it again"),
    "worker_sleeps": _Kind("warning", "host {subject}: {what}", "look at the network of {subject}"),
    "redis_doubted": _Kind(
        "warning",
        "Redis is doubted, so {number} held for the longest period of each, once: {what}",
        "it ends by itself; find the cause: a restore, a fail-over, a crash, a clock that was set",
    ),
    "endpoint_held": _Kind("warning", "{subject} is held: {what}", "it takes calls again by itself"),
    "endpoint_resting": _Kind(
        "warning",
        "{subject} rests: {what}",
        "it is probed until it works; `rlm endpoint pause {subject}` keeps events from it",
    ),
    "endpoint_probing": _Kind(
        "warning",
        "{subject} is probed: {what}",
        "it is probed until it works; `rlm endpoint pause {subject}` keeps events from it",
    ),
    "endpoint_paused": _Kind("info", "{subject} is paused: {what}", "`rlm endpoint resume {subject}`"),
}
_WORST_FIRST: Final = ("error", "warning", "info")
_OF_HEALTH: Final = {
    Circuit.HELD: "endpoint_held",
    Circuit.RESTING: "endpoint_resting",
    Circuit.PROBING: "endpoint_probing",
    Circuit.PAUSED: "endpoint_paused",
}


class Scene(NamedTuple):
    """What has been read to find conditions: the register, the faults of Redis, hosts and windows as documents."""

    there: Present
    amiss: Sequence[Finding]
    hosts: Sequence[Host]
    standings: Mapping[str, EndpointView]


def conditions(store: Store, scene: Scene, *, revision: str = "") -> tuple[Condition, ...]:
    """Return what is not well, the worst first. `revision` is that of the open run, if there is one."""
    found = [
        *_of_redis(scene.amiss),
        *_of_processes(store, scene, revision),
        *_of_hosts(scene.hosts),
        *_of_endpoints(store, scene.standings),
    ]
    return tuple(sorted(found, key=lambda condition: _WORST_FIRST.index(condition.severity)))


def _of_redis(amiss: Iterable[Finding]) -> Iterator[Condition]:
    for finding in amiss:
        yield _condition("redis_unfit", finding.name, what=finding.message, remedy=finding.remedy)


def _of_processes(store: Store, scene: Scene, revision: str) -> Iterator[Condition]:
    if why := no_scheduler(store, scene.there):
        yield _condition("no_scheduler", "scheduler", what=why)
    if why := nobody_sends(store, scene.there, revision=revision, distrusted=scene.amiss):
        yield _condition("no_worker", "workers", what=why)
    processes = [one for role in Role for one in scene.there.living(role)]
    reader = entry_of(store.settings, "", os.getpid(), 0.0)
    leads = leader(store, scene.there)
    if scene.there.holder is None:  # a scheduler that is kept apart does not lead next
        in_force = store.leases.revision()
        leads = next((one for one in processes if one.revision == in_force), leads)
    for subject, sentence in other_configurations(leads, [*processes, reader]).items():
        yield _condition("other_configuration", subject, what=sentence)


def _of_hosts(hosts: Iterable[Host]) -> Iterator[Condition]:
    for host in hosts:
        if host.why:
            code = "host_silent" if host.state == HostState.SILENT else "worker_sleeps"
            yield _condition(code, host.host, what=host.why)


def _of_endpoints(store: Store, standings: Mapping[str, EndpointView]) -> Iterator[Condition]:
    held = [name for name, entry in standings.items() if entry.health == Circuit.HELD]
    doubt = store.leases.doubt() if held else None
    doubted = {name for name in held if doubt and doubt.why in (standings[name].circuit_reason or "")}
    if doubt and doubted:
        number = f"{counted(len(doubted), 'endpoint')} {'is' if len(doubted) == 1 else 'are'}"
        yield _condition("redis_doubted", "redis", since=isoformat(doubt.at), what=doubt.why, number=number)
    for name, entry in standings.items():
        if name not in doubted and (code := _OF_HEALTH.get(Circuit(entry.health))):
            yield _condition(code, name, since=entry.since, what=entry.circuit_reason or "by hand")


def _condition(code: str, subject: str, *, since: str | None = None, **facts: str) -> Condition:
    kind, facts = _KINDS[code], {"subject": subject, **facts}
    sentence, remedy = kind.sentence.format(**facts), kind.remedy.format(**facts)
    return Condition(code=code, subject=subject, severity=kind.severity, since=since, sentence=sentence, remedy=remedy)
