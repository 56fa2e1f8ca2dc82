"""What `rlm doctor` looks at: each check tells what it found, and where that is not well, what to do."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from os import W_OK, access
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rlm.archive import Archive
from rlm.books import books
from rlm.clock import isoformat, system_clock
from rlm.drift import check_times
from rlm.endpoint import all_limited
from rlm.explain.words import moment
from rlm.settings.values import EMBEDDED
from rlm.shut import check_endpoints
from rlm.store.connect import address
from rlm.store.fitness import Finding, Severity, check_fitness
from rlm.store.processes import Role, WorkerState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rlm.books import Books
    from rlm.errors import StoreError
    from rlm.settings import Settings
    from rlm.store import Store
    from rlm.store.processes import Process

#: Clocks of two hosts that are further apart than this are worth a warning, seconds.
CLOCK_SECONDS = 1.0
#: So long it is told that the windows could not be trusted, seconds.
TOLD_SECONDS = 24 * 3600.0
#: A run closes within a second of its deadline; one still open after this many is nobody's, seconds.
OVERDUE_SECONDS = 5.0
#: A scheduler that has not ticked for this many of its periods is stuck.
MISSED_TICKS = 2
#: So many beyond their bound one run may add, which the archivist moves within seconds of its end.
ARCHIVED_SOON = {"run records": 1, "dead letters": 1000}

_ARCHIVE_REMEDY = "make room on its disk, see who owns the directory, or name another in archive.directory"


def check_configuration(settings: Settings) -> Finding:
    """Tell where the configuration comes from. A faulty one ends the command before this."""
    source = f"file {settings.source}" if settings.source else "the built-in defaults, whose endpoints are examples"
    types, endpoints = len(settings.event_types), len(settings.endpoints)
    return _good("configuration", f"{source}; {types} types, {endpoints} endpoints, revision {settings.revision}")


def check_redis(store: Store, *, allow_volatile: bool) -> list[Finding]:
    """Look whether Redis can be reached and is fit to keep the ledger.

    Raises:
        StoreError: it cannot be reached, or refuses the login.
    """
    fitness = check_fitness(store.client, allow_volatile=allow_volatile)
    reached = _good("redis", f"reached at {address(store.client)}")
    return [
        reached,
        _transport(store.settings.redis.url),
        *(replace(found, name=f"redis.{found.name}") for found in fitness.findings),
    ]


def _transport(url: str) -> Finding:
    """Tell whether others can read along, by the URL alone: a name is not resolved."""
    name = "redis.transport"
    scheme, _, rest = url.partition("://")
    if url == EMBEDDED or scheme == "unix":
        return _good(name, "by a Unix socket of this host")
    if scheme == "rediss":
        return _good(name, "encrypted, and the server's certificate is checked")
    hosts = [urlsplit(f"//{place}").hostname or "localhost" for place in _authority(rest).split(",")]
    if others := [host for host in hosts if not _is_loopback(host)]:
        message = f"{', '.join(others)}: password and items go there unencrypted (redis.url is {scheme}://)"
        return _warning(
            name, message, "use rediss:// and a user of RLM's own, see docs/security.md, or a private network"
        )
    return _good(name, "by the loopback interface of this host")


def _authority(rest: str) -> str:
    return rest.partition("?")[0].rpartition("@")[2].partition("/")[0]


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def unreachable(error: StoreError) -> Finding:
    """Tell that Redis could not be asked, or does not let RLM do what it must."""
    remedy = error.remedy or "do what it says; docs/reliability.md has a list of symptoms"
    return Finding("redis", ok=False, message=error.what, remedy=remedy)


def check_installation(store: Store) -> Iterator[Finding]:
    """Look at the clock, who is alive, the open run, endpoints, how long calls take, the staging list and the books.

    Raises:
        StoreError: Redis did not answer.
    """
    yield _clock(store)
    yield _memory(store)
    yield _scheduler(store)
    yield _supervisor(store)
    yield _workers(store)
    yield _run(store)
    yield from check_endpoints(store)
    yield _archive(store)
    yield from check_times(store.settings.event_types, store.measures.kept())
    found = books(store)
    yield _staging(found)
    yield from _books(found)


def _good(name: str, message: str) -> Finding:
    return Finding(name, ok=True, message=message)


def _warning(name: str, message: str, remedy: str) -> Finding:
    return Finding(name, ok=False, message=message, remedy=remedy, severity=Severity.WARNING)


def _error(name: str, message: str, remedy: str) -> Finding:
    return Finding(name, ok=False, message=message, remedy=remedy)


def _clock(store: Store) -> Finding:
    """Compare the clock of Redis with this host's; the time of the question is no difference."""
    asked_at = system_clock.now()
    now_us, _ = store.windows.look(())
    answered_at = system_clock.now()
    ahead = now_us / 1_000_000 - min(max(now_us / 1_000_000, asked_at), answered_at)
    if abs(ahead) <= CLOCK_SECONDS:
        return _good("clock", f"this host and Redis agree to {abs(ahead):.1f} s")
    message = f"the clock of Redis is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this host's"
    return _warning("clock", message, "have both set by NTP (chrony, systemd-timesyncd)")


def _memory(store: Store) -> Finding:
    """Tell whether the windows could not be trusted a while ago: then Redis lost data, or its clock stepped."""
    found = store.epochs.last_renewal()
    if found is None or system_clock.now() - found.at > TOLD_SECONDS:
        return _good("memory", "Redis has forgotten no call that is known of")
    now, until = system_clock.now(), _held_until(store, found.at)
    ends = moment(until, now).partition(".")[0]
    message = f"{isoformat(found.at)}: {found.why}. Every endpoint {'is' if until > now else 'was'} held until {ends}"
    remedy = "find out why (docs/reliability.md, under its symptom); events that Redis lost RLM cannot bring back"
    return _warning("memory", message, remedy)


def _held_until(store: Store, renewed_at: float) -> float:
    """Say when the last endpoint is held no longer, seconds since 1970: its longest period after any call's end."""
    limited = all_limited(store.endpoints().values())
    longest = max(one.limit.longest_seconds for one in limited) + store.settings.run.guard_seconds
    timeout = max(one.timeout_seconds for one in store.settings.endpoints.values())
    now_us, views = store.windows.look(limited)
    held = max(view.held_seconds for view in views.values())  # longer where a limit looked further back by then
    return max(renewed_at + longest + timeout, now_us / 1_000_000 + held if held else 0.0)


def _scheduler(store: Store) -> Finding:
    schedulers, holder = store.processes.alive(Role.SCHEDULER), store.leases.holder()
    if not schedulers and holder is None:
        message = "none is running, so no run starts by itself"
        return _warning("scheduler", message, "`rlm up` or `rlm scheduler` starts one")
    if not schedulers:
        return _good("scheduler", f"none is running, {holder} conducts a run by hand")
    if stale := _of_another_configuration(store, schedulers):
        return _warning("scheduler", f"{stale} runs another configuration", "restart it")
    last, every = store.runs.last_tick(), store.settings.run.every_seconds
    since = max(last or 0.0, min(one.started_at for one in schedulers))
    late = system_clock.now() - since - MISSED_TICKS * every
    if late > 0 and store.runs.current() is None:
        message = f"it has not ticked for {late + MISSED_TICKS * every:.0f} s, where a tick is due every {every:g} s"
        return _warning("scheduler", message, "read its log, and restart it")
    return _good("scheduler", f"{len(schedulers)} running, {holder or 'none yet'} leads")


def _supervisor(store: Store) -> Finding:
    supervisors = store.processes.alive(Role.SUPERVISOR)
    if not supervisors:
        message = "none is running, so no worker is started"
        return _warning("supervisor", message, "`rlm up` or `rlm supervisor` starts one")
    if stale := _of_another_configuration(store, supervisors):
        return _warning("supervisor", f"{stale} runs another configuration", "restart it")
    return _good("supervisor", f"{len(supervisors)} running, on {', '.join(sorted({one.host for one in supervisors}))}")


def _of_another_configuration(store: Store, processes: Sequence[Process]) -> str:
    return next((one.id for one in processes if one.revision != store.settings.revision), "")


def _workers(store: Store) -> Finding:
    workers, wanted = store.processes.alive(Role.WORKER), store.processes.wanted()
    ready = sum(one.state == WorkerState.READY for one in workers)
    message = f"{ready} ready of {wanted} wanted"
    if ready >= wanted:
        return _good("workers", message)
    return _warning("workers", message, "start a supervisor; where one runs, its log says why, or wait a moment")


def _run(store: Store) -> Finding:
    run = store.runs.current()
    if run is None:
        return _good("run", "none is open")
    overdue = system_clock.now() - run.deadline
    if overdue <= OVERDUE_SECONDS:
        return _good("run", f"{run.id} is {run.state}")
    message = f"{run.id} should have been closed {overdue:.0f} s ago"
    return _error("run", message, "start a scheduler, which closes it, or close it with `rlm cancel`; nothing is lost")


def _archive(store: Store) -> Finding:
    """Tell what the archive on this host takes, and whether what should be in it still waits in Redis."""
    archive, settings = Archive(store.settings.archive_dir), store.settings
    kept = {
        "run records": store.runs.count() - settings.run.history,
        "dead letters": store.letters.count() - settings.queue.failed_max,
    }
    surplus = {what: number for what, number in kept.items() if number > 0}
    waiting = ", ".join(f"{number:,} {what}" for what, number in surplus.items())
    told = f"; {waiting} more than Redis is to keep wait there to be archived" if waiting else ""
    soon = ARCHIVED_SOON if store.runs.current() else dict.fromkeys(ARCHIVED_SOON, 0)
    try:
        files = archive.files()
        size = sum(path.stat().st_size for path in files)
    except OSError as error:
        return _warning("archive", f"{archive.directory} cannot be read: {error.strerror}{told}", _ARCHIVE_REMEDY)
    if archive.directory.exists() and not (archive.directory.is_dir() and access(archive.directory, W_OK)):
        return _warning("archive", f"{archive.directory} cannot be written to{told}", _ARCHIVE_REMEDY)
    if any(number > soon[what] for what, number in surplus.items()):
        remedy = f"a scheduler does that after each run; if they stay, its log says why: {_ARCHIVE_REMEDY}"
        return _warning("archive", told.removeprefix("; "), remedy)
    if not files:
        return _good("archive", f"empty on this host; what Redis is not to keep goes to {archive.directory}{told}")
    return _good("archive", f"{len(files)} files of {size / 1e6:,.1f} MB in {archive.directory}{told}")


def _staging(found: Books) -> Finding:
    if found.run_id is not None:
        return _good("staging", f"{found.staged} items, a run is open")
    if not found.staged:
        return _good("staging", "empty")
    message = f"{found.staged} items are in staging from a drain that was cut short"
    return _warning("staging", message, "nothing is lost: the next run takes them first; `rlm start` starts one")


def _books(found: Books) -> Iterator[Finding]:
    remedy = "this is a fault of RLM: keep a copy of the data of Redis and its logs, and report it"
    if not found.faults:
        yield _good("books", f"they balance: {found.unsettled} events unsettled in the ledger")
    for fault in found.faults:
        yield _error("books", fault, remedy)
