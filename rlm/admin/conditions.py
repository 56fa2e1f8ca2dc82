"""Everything that is not well, as a list of conditions: found here by `conditions`, and shown everywhere as it is.

Each code has one severity, one sentence and one remedy, in the table `KINDS`; docs/operations.md has the same table.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from shutil import disk_usage
from typing import Final, Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from rlm.admin.attendance import TAKEOVER_SECONDS, leader, revision_in_force
from rlm.admin.endpoints import FAILING_WITH, standing
from rlm.core.clock import isoformat, system_clock
from rlm.core.documents import Condition, EndpointView, Record
from rlm.core.errors import StoreError, StoreForbiddenError, StoreGarbledError, StoreRefusingError, StoreUnfitError
from rlm.core.run import Run, State
from rlm.core.tally import WEB_PAGE, address_of, troubles_of
from rlm.core.text import counted, listed, named, of_another_configuration, safe_line, span
from rlm.core.trail import CallEnd
from rlm.core.window import FAILING, RECOVERING, Circuit
from rlm.ledger.connect import text
from rlm.ledger.fitness import WRITES, Flaw, check_fitness
from rlm.ledger.processes import Process, Role, WorkerState, host_of
from rlm.ledger.reading.books import Books, books, miscounted
from rlm.ledger.reading.present import Present, present
from rlm.ledger.scripts import batch
from rlm.ledger.store import Store
from rlm.ledger.values import MICROSECONDS
from rlm.processes.alive import entry_of
from rlm.processes.sharing import room, serving
from rlm.settings import Settings, differing
from rlm.settings.secrets import EMBEDDED

#: The conductor closes runs at their deadline. What is overdue for more seconds than this is neglected.
OVERDUE_SECONDS: Final = 5.0
#: A run that completes nothing for so many seconds stands still, if events wait and slots are free.
STILL_SECONDS: Final = 30.0
#: The clocks of two hosts may differ by so much, seconds.
CLOCK_SECONDS: Final = 1.0
#: A call that leaves later than this part of `run.guard_seconds` after its slot gives the slot back.
LATE_PART: Final = 0.4
#: An endpoint is slow if it takes this part of its time-out for 19 of 20 calls.
SLOW_PART: Final = 0.8
#: A disk with fewer bytes free is full.
FULL_BYTES: Final = 1_000_000
#: The newest calls among which the last completed one is looked for.
NEWEST_CALLS: Final = 200
#: A backlog grows if it did in so many runs, one after the other.
GROWING_RUNS: Final = 3
MOST_NAMED: Final = 3


class Kind(NamedTuple):
    """What a code says: how bad it is, what it means in general, its sentence and its remedy.

    `stops`: nothing is delivered while it lasts.
    """

    severity: Literal["info", "warning", "error"]
    meaning: str
    sentence: str
    remedy: str
    stops: bool = False


_WHAT: Final = "{what}"
_REMEDY: Final = "{remedy}"
KINDS: Final[Mapping[str, Kind]] = {
    "redis_away": Kind("error", "Redis does not answer, or refuses", _WHAT, _REMEDY, stops=True),
    "redis_unfit": Kind(
        "error", "Redis takes no writes, or could lose events", "Redis is not fit: {what}", _REMEDY, stops=True
    ),
    "redis_slow": Kind(
        "warning",
        "Redis answers so late that slots cannot be used",
        "Redis takes {took} to answer {subject}, so slots come too late to be used",
        "look at its disk (`appendfsync`), `SLOWLOG GET` and the network; else raise `run.guard_seconds`",
    ),
    "redis_doubted": Kind(
        "warning",
        "endpoints are held, because their windows cannot be trusted",
        "{number} held, once, for the longest period of each: {what}",
        "it ends by itself; if Redis was restored, failed over or crashed, or its clock was set, see its log",
    ),
    "clock_apart": Kind(
        "warning",
        "the clocks of Redis and of a host differ",
        "the clock of Redis is {seconds} {ahead} that of {subject}",
        "synchronise both by NTP (`chronyc tracking`, `timedatectl`)",
    ),
    "key_damaged": Kind(
        "error",
        "a key in Redis holds what RLM does not write, and what needs it waits",
        "{subject} {what}",
        "let RLM's user alone write there (docs/security.md), then `redis-cli DEL {subject}`; a window forgets its "
        "calls with that, so `rlm endpoint pause` its endpoint before, for its longest period",
    ),
    "no_scheduler": Kind(
        "error",
        "no scheduler leads, so no run starts",
        "{what}{run}",
        "`rlm up` or `rlm scheduler` starts one",
        stops=True,
    ),
    "no_supervisor": Kind(
        "error", "no supervisor starts workers", _WHAT, "`rlm up` or `rlm supervisor` starts one{more}"
    ),
    "no_worker": Kind(
        "error",
        "workers are wanted, and none is ready",
        "no worker is ready of {wanted} wanted: {what}",
        _REMEDY,
        stops=True,
    ),
    "workers_missing": Kind(
        "warning", "fewer workers are ready than wanted", "{ready} ready of {wanted} wanted: {what}", _REMEDY
    ),
    "host_silent": Kind(
        "warning", "a scheduler or supervisor is not heard from, and did not sign off", _WHAT, "on {subject}, {remedy}"
    ),
    "host_cut_off": Kind(
        "warning",
        "workers of one host can connect to no endpoint, while others can",
        "{number} of {subject} can connect to no endpoint: {what}",
        "look at route, resolver (/etc/resolv.conf), firewall and open files (`ulimit -n`) of {subject}",
    ),
    "other_configuration": Kind(
        "warning",
        "two configurations are in use on one prefix",
        _WHAT,
        "restart those of {subject} with the file of the others; `rlm config show` names what each value comes from",
    ),
    "endpoint_failing": Kind(
        "warning",
        "an endpoint fails, rests, and is probed until it works",
        "{subject} fails ({what}), and is probed",
        "{remedy}; `rlm endpoint resume {subject}` calls it at once, `rlm endpoint pause {subject}` ends the probes",
    ),
    "endpoint_throttled": Kind(
        "warning",
        "an endpoint refuses calls, and rests as it asked",
        "{subject} refuses calls (HTTP 429 or 503) and rests for {left}",
        "if `rlm compliance` says that RLM kept its limit, {limit}, the API allows less, or others call it: "
        "`rlm endpoint limit {subject} RATE`",
    ),
    "endpoint_paused": Kind(
        "info",
        "an operator paused an endpoint or a budget",
        "{subject} is paused{what}",
        "`rlm endpoint resume {subject}`",
    ),
    "endpoint_full": Kind(
        "warning",
        "the slots of a limit are used up for longer than a window",
        "{subject} has used up {limit}: no call before {until}",
        "it ends then; an endpoint more helps, or `rlm endpoint limit {subject} RATE`",
    ),
    "endpoint_slow": Kind(
        "warning",
        "an endpoint needs nearly its whole time-out",
        "{subject} answered 19 of 20 calls of the last run in {took}, of the {timeout} that it may take",
        "raise its `timeout_seconds`, or have the API look at it",
    ),
    "answers_html": Kind(
        "warning",
        "an endpoint answers with a web page, which counts as completed",
        "{subject} answered {number} with a web page (2xx of text/html), which counts as completed",
        'see whether it is a login page; `success = {{ content_type = "application/json" }}` makes it a failure',
    ),
    "no_endpoint": Kind(
        "error",
        "no endpoint of a type works, and its events wait",
        "no endpoint of {subject} works, and {number} wait: {what}",
        "{remedy}; the first good answer ends it, and `rlm endpoint resume NAME` calls one at once",
    ),
    "run_stuck": Kind(
        "error", "a run completes nothing, or is not closed", "run {run} {what}", _REMEDY, stops=True
    ),
    "run_failed": Kind(
        "error",
        "the last run could not be conducted",
        "run {run} failed: {what}",
        "its events are in the next run, which `rlm start` starts at once; `rlm result {run}` shows it",
    ),
    "leftovers": Kind(
        "warning", "the last run left events over: slots or lanes lacked, or calls failed", "run {run}: {what}", _REMEDY
    ),
    "limit_exceeded": Kind(
        "error",
        "the last run made more calls in a period than a limit allows",
        "{subject} got {number} more in one period than its limit allows",
        "`rlm endpoint pause {subject}` stops it; keep the output of `rlm compliance`, and report it",
    ),
    "books_unbalanced": Kind(
        "error",
        "not every event is accounted for",
        "the books do not balance: {what}",
        "keep a copy of the data of Redis and the logs, and report it",
    ),
    "backlog_grows": Kind(
        "warning",
        "each of the last three runs left more over than the one before",
        "the last three runs left {numbers} events over",
        "`rlm plan` says what binds: a limit (`rlm endpoint limit`, another endpoint), or `workers.max`",
    ),
    "dead_letters": Kind(
        "error",
        "there are more dead letters than alarm.failed",
        "there are {number}, more than alarm.failed ({most})",
        "`rlm failed list` says why; `rlm failed retry` sends them, `rlm failed drop` removes them",
    ),
    "no_archive": Kind(
        "error",
        "dead letters cannot be archived, so no more items are taken once there are too many",
        "on {subject} {what}",
        "make room on the disk of `archive.directory` there, or correct its owner",
    ),
}  # fmt: skip
#: The subject of `no_endpoint` if it is so for all types; then nothing is delivered.
EVERY_TYPE: Final = "any type"
#: What to do about an endpoint, by how its calls fail.
_FIXES: Final = {
    "connection refused": "start the API at {address}, or correct its `url`",
    "name not found": "correct its `url`, or the DNS entry of {address}",
    "no resolver answers": "look at /etc/resolv.conf of the workers' hosts",
    "not reachable": "look at the route and the firewall to {address}",
    "no answer in time": "have the API look at {address}, or raise its `timeout_seconds`",
    "TLS certificate expired": "renew the certificate of {address}",
    "TLS certificate refused": "see whether the certificate of {address} is for that name and of a trusted CA",
    "TLS failed": "see whether {address} speaks TLS, or correct its `url`",
    **dict.fromkeys(("HTTP 401", "HTTP 403"), "correct the token in its `headers`, and restart"),
    **dict.fromkeys(("HTTP 404", "HTTP 405", "HTTP 410"), "correct its `url`, and restart"),
    "unexpected_answer": "`rlm explain` of one of its events shows the answer: correct the API, or `success`",
}
#: What to do about events left over for these causes; what else leaves events over is a condition itself, or an order.
_LEFT_REMEDIES: Final = {
    "slots": "`rlm plan` says which limit binds: raise it (`rlm endpoint limit NAME RATE`), or add an endpoint",
    "lanes": "raise `workers.max`, or `workers.threads`",
    "retries": "`rlm result` names the answers; `rlm explain` of an event has each",
}


class Scene(msgspec.Struct, frozen=True):
    """What is read to find conditions: the register, the run, the endpoints, the books, the newest records."""

    store: Store
    there: Present
    unfit: tuple[Flaw, ...]
    run: Run | None
    now_us: int
    standings: Mapping[str, EndpointView]
    books: Books
    records: tuple[Record, ...]

    @property
    def last(self) -> Record | None:
        """The record of the last run."""
        return next(iter(self.records), None)


def look(store: Store, *, insists: bool = False) -> Scene:
    """Read the scene; `insists`: without a scheduler, an append-only file is required. Raise a StoreError."""
    there = present(store)
    insists = any(each.insists_on_file for each in there.candidates) if there.candidates else insists
    unfit = tuple[Flaw, ...]()
    with suppress(StoreForbiddenError):
        unfit = check_fitness(store, allow_volatile=not insists)
        try:
            store.notes.note({}, ())
        except StoreRefusingError as error:  # INFO does not say all that keeps it from writing
            unfit = unfit if any(each.name == WRITES for each in unfit) else (Flaw(WRITES, error.what, error.remedy),)
    run, now_us = store.runs.current_at()
    records = tuple(store.runs.recent(GROWING_RUNS))
    return Scene(store, there, unfit, run, now_us, standing(store)[1], books(store), records)


def conditions(store: Store, scene: Scene | None = None, *, spared: Collection[str] = ()) -> tuple[Condition, ...]:
    """Return what is not well, the worst first. Without a `scene`, also if Redis does not answer.

    The checks `spared` are not made.
    """
    return worst_first(condition for each in examined(store, scene, spared=spared).values() for condition in each)


def worst_first(found: Iterable[Condition]) -> tuple[Condition, ...]:
    """Return conditions in the order in which they are shown."""
    return tuple(sorted(found, key=lambda condition: ("error", "warning", "info").index(condition.severity)))


def examined(
    store: Store, scene: Scene | None = None, *, insists: bool = False, spared: Collection[str] = ()
) -> dict[str, list[Condition]]:
    """Return what each check finds, by the name of the check, but for those `spared`. If Redis is no ledger, only that.

    `insists` is as for `look`.
    """
    try:
        with store.guarded():  # whatever stands in Redis is a condition
            if scene is None:
                store.require_schema()
                scene = look(store, insists=insists)
            refuses = any(finding.name == WRITES for finding in scene.unfit)  # then nobody can announce itself
            spared = {*spared, *(ANNOUNCED if refuses else ())}
            found = {name: list(find(scene)) for name, find in CHECKS.items() if name not in spared}
            begun = store.notes.begun()
    except StoreGarbledError as error:
        return {"keys": [*_keys(store)] or [_condition("key_damaged", "Redis", what=error.what)]}
    except StoreError as error:
        return {"redis": [away(error, store.settings)]}
    return {name: [_since(each, begun) for each in of_check] for name, of_check in found.items()}


def away(error: StoreError, settings: Settings) -> Condition:
    """Return the condition that Redis failed, so that nothing else is known."""
    remedy = error.remedy or "`rlm config show` names the Redis in use, redis.url"
    if (
        settings.redis.url == EMBEDDED
        and settings.data_dir.exists()
        and disk_usage(settings.data_dir).free < FULL_BYTES
    ):
        remedy = f"make room on the disk of {settings.data_dir}, which is full; RLM then starts its server again"
    code = "redis_unfit" if isinstance(error, StoreUnfitError) else "redis_away"
    return _condition(code, "redis", what=error.what, remedy=remedy)


def name_of(condition: Condition) -> str:
    """Return the name under which it is noted since when a condition lasts."""
    return f"{condition.code} {condition.subject}"


def stops(condition: Condition) -> bool:
    """Return whether nothing is delivered while this lasts."""
    return KINDS[condition.code].stops or (condition.code, condition.subject) == ("no_endpoint", EVERY_TYPE)


def is_grave(condition: Condition) -> bool:
    """Return whether nothing would be delivered by a run."""
    return stops(condition) or condition.code == "no_supervisor"


def standstill(found: Iterable[Condition]) -> str:
    """Return why nothing would be delivered now, and what to do; empty if something would."""
    return "; ".join(f"{each.sentence}: {each.remedy}" for each in filter(is_grave, found))


def _condition(code: str, subject: str, *, since: str | None = None, **facts: object) -> Condition:
    kind, facts = KINDS[code], {"subject": subject, **facts}
    sentence, remedy = (safe_line(words.format_map(facts)) for words in (kind.sentence, kind.remedy))
    return Condition(
        code=code, subject=safe_line(subject), severity=kind.severity, since=since, sentence=sentence, remedy=remedy
    )


def _since(condition: Condition, begun: Mapping[str, float]) -> Condition:
    at = begun.get(name_of(condition))
    return replace(condition, since=isoformat(at)) if condition.since is None and at else condition


# -- Redis


def _redis(scene: Scene) -> Iterator[Condition]:
    for finding in scene.unfit:
        yield _condition("redis_unfit", finding.name, what=finding.message, remedy=finding.remedy)
    held = {name: entry for name, entry in scene.standings.items() if entry.health == Circuit.HELD}
    doubt = scene.store.leases.doubt() if held else None
    by_doubt = [name for name, entry in held.items() if doubt and doubt.why in (entry.circuit_reason or "")]
    if doubt and by_doubt:
        number = f"{counted(len(by_doubt), 'endpoint')} {'is' if len(by_doubt) == 1 else 'are'}"
        yield _condition("redis_doubted", "redis", since=isoformat(doubt.at), what=doubt.why, number=number)
    for name in held.keys() - {*by_doubt}:
        yield _condition("redis_doubted", name, what="a longer rule came into force", number=f"{name} is")


def _clock(scene: Scene) -> Iterator[Condition]:
    """Compare the clock of Redis with this host's, and how long it takes to answer with what is too long."""
    host, least, ahead = scene.store.settings.host_name, float("inf"), 0.0
    for _ in range(3):
        before, asked_at = system_clock.now(), system_clock.monotonic()
        redis = scene.store.now()
        took = system_clock.monotonic() - asked_at
        if took < least:
            least, ahead = took, redis - min(max(redis, before), before + took)
    if least > LATE_PART * scene.store.settings.run.guard_seconds:
        yield _condition("redis_slow", host, took=span(least))
    if abs(ahead) > CLOCK_SECONDS:
        yield _condition("clock_apart", host, seconds=span(abs(ahead)), ahead="ahead of" if ahead > 0 else "behind")


def _keys(of: Scene | Store) -> Iterator[Condition]:
    """Find keys of another type than RLM's, which stop what needs them."""
    store = of.store if isinstance(of, Scene) else of
    wanted = store.keys.kinds(
        store.settings.types, [endpoint.window_id for endpoint in store.settings.endpoints.values()]
    )
    types = map(text, batch(store.client, [("TYPE", key) for key in wanted]))
    for key, is_now in zip(wanted, types, strict=True):
        if is_now not in {wanted[key], "none"}:
            yield _condition("key_damaged", key, what=f"is a {is_now}, which RLM does not write")


# -- processes


def _scheduler(scene: Scene) -> Iterator[Condition]:
    """Find out whether a scheduler leads.

    The entry of a killed one remains for some seconds; an expired lease that nobody takes shows its death sooner.
    """
    there, schedulers = scene.there, scene.there.living(Role.SCHEDULER)
    free_seconds = -there.tenure.left_seconds if there.tenure else 0.0
    others = any(there.tenure is None or process.id != there.tenure.owner for process in schedulers)
    if there.holder is not None and (schedulers or scene.run):  # a run may be conducted by a command
        return
    if schedulers and free_seconds <= (TAKEOVER_SECONDS if others else 0.0):
        return
    what = "no scheduler is heard from, so no run starts"
    if schedulers:
        ids = named([process.id for process in schedulers], MOST_NAMED)
        what = f"no scheduler leads: {ids} died, or may not lead"
    run = f"; run {scene.run.id} is open, and nobody conducts it" if scene.run else ""
    yield _condition("no_scheduler", "scheduler", what=what, run=run)


def _workers(scene: Scene) -> Iterator[Condition]:
    """Find out whether the wanted workers are ready, or will be, and if not why."""
    store, there, run = scene.store, scene.there, scene.run
    revision = run.revision if run else revision_in_force(store, there)
    living = [each for each in there.living(Role.WORKER) if each.state != WorkerState.STOPPING]
    usable = [each for each in living if each.revision in {"", revision}]
    ready = [each for each in usable if each.state == WorkerState.READY and not each.sleeping]
    supervisors = there.living(Role.SUPERVISOR)
    able = [each for each in supervisors if each.revision in {"", revision}]
    strangers = [each for each in living if each not in usable]
    also = f"; {of_another_configuration(len(strangers))}" if strangers else ""
    if not usable and not able:
        what = "every supervisor has another configuration" if supervisors else "no supervisor is heard from"
        more = ", with the configuration of the scheduler" if supervisors or strangers else ""
        yield _condition("no_supervisor", "supervisor", what=f"{what}, so nothing is sent{also}", more=more)
        return
    wanted, coming = store.processes.wanted(), sum(each.state == WorkerState.STARTING for each in usable)
    lacking = bool(run.forecast and run.forecast.shortage) if run else len(ready) + coming < wanted
    if len(ready) >= wanted or not lacking:
        return
    asleep, troubled = [each for each in usable if each.sleeping], [each for each in able if each.trouble]
    what = "those missing are not up yet"
    remedy = f"see whether the supervisor on {_hosts_of(able)} lives, and its log"
    if not able:
        what, remedy = "no supervisor is heard from", "`rlm up` or `rlm supervisor` starts one"
    elif asleep:
        what, remedy = asleep[0].sleeping, f"look at route, resolver and firewall of {_hosts_of(asleep)}"
    elif troubled:
        what = troubled[0].trouble
        remedy = f"see the log of the supervisor on {_hosts_of(troubled)} for how they ended"
    elif strangers:
        what = of_another_configuration(len(strangers))
        remedy = f"restart the supervisor on {_hosts_of(strangers)} with the configuration of the scheduler"
    elif (most := room(serving(able, revision))) < wanted:
        what, remedy = f"the hosts take {most:,}", "raise `workers.max_here`, or start `rlm supervisor` on another host"
    code = "workers_missing" if ready else "no_worker"
    yield _condition(code, "workers", ready=len(ready), wanted=wanted, what=what, remedy=remedy)


def _hosts_of(processes: Iterable[Process]) -> str:
    return named(sorted({process.host for process in processes}), MOST_NAMED)


def _hosts(scene: Scene) -> Iterator[Condition]:
    """Find processes that fell silent, and hosts whose workers can connect to no endpoint."""
    workers, register = scene.there.living(Role.WORKER), scene.there.entries
    roles = (Role.SCHEDULER, Role.SUPERVISOR)
    there = {(role, process.host) for role in roles for process in scene.there.living(role)}  # their successors
    silent = {
        name: role
        for role in roles
        for name, entry, _ in register[role]
        if entry is None and (role, host_of(name)) not in there
    }
    heard = {process.id for process in scene.there.living(Role.SUPERVISOR)}
    led = Counter(process.supervisor for process in workers if process.supervisor not in {"", *heard})
    for name, role in (dict.fromkeys(led, Role.SUPERVISOR) | silent).items():
        host, pid, *_ = [*name.split(":"), ""]
        what = f"the {role} {name} is not heard from, and did not sign off"
        remedy = f"see whether pid {pid} lives and reaches Redis; if not, `rlm {role}` starts another"
        if led[name]:
            what = f"the supervisor {name} is not heard from, but {counted(led[name], 'worker')} of it: it hangs"
            remedy = f"`kill -CONT {pid}` if it was stopped, else `kill -KILL {pid}` and `rlm supervisor`"
        yield _condition("host_silent", host, what=what, remedy=remedy)
    asleep = [process for process in workers if process.sleeping]
    failing = [entry.circuit_reason or "" for entry in scene.standings.values() if _fails(entry)]
    shared = any(reason.removeprefix(FAILING_WITH) in process.sleeping for reason in failing for process in asleep)
    places, tired = {process.host for process in workers}, {process.host for process in asleep}
    for host in sorted(tired) if not shared and (tired < places or len(places) == 1) else ():
        here = [process for process in workers if process.host == host]
        number = f"{sum(map(bool, (each.sleeping for each in here)))} of {counted(len(here), 'worker')}"
        what = next(each.sleeping for each in here if each.sleeping)
        yield _condition("host_cut_off", host, number=number, what=what)
    for process in scene.there.living(Role.SCHEDULER):
        if process.trouble:
            yield _condition("no_archive", process.host, what=process.trouble)


def _configuration(scene: Scene) -> Iterator[Condition]:
    """Find processes, this one included, with another configuration than the scheduler that leads."""
    store, there = scene.store, scene.there
    processes = [process for role in Role for process in there.living(role)]
    leads = leader(store, there)
    if there.holder is None:  # a scheduler that is kept apart does not lead next
        in_force = store.leases.revision()
        leads = next((process for process in processes if process.revision == in_force), leads)
    if leads is None or not leads.revision:
        return
    reader = entry_of(store.settings, "", os.getpid(), 0.0)
    others = [each for each in (*processes, reader) if each.revision not in {"", leads.revision}]
    for subject, process in {f"{_file(each)} on {each.host}": each for each in others}.items():
        parts = " and ".join(differing(process.revision, leads.revision))
        by = f"{_file(leads)} of pid {leads.pid} on {leads.host}, by which runs go"
        what = f"{_file(process)} of pid {process.pid} on {process.host} differs in {parts} from {by}"
        yield _condition("other_configuration", subject, what=what)


def _file(process: Process) -> str:
    return process.file or "the built-in configuration"


# -- endpoints


def _endpoints(scene: Scene) -> Iterator[Condition]:
    for name, entry in scene.standings.items():
        yield from _health(scene, name, entry)
    types, endpoints = scene.store.settings.event_types, scene.store.settings.endpoints
    waiting = {name: account.unsettled for name, account in scene.books.by_type.items()}
    failing = [kind for kind in types if all(_fails(scene.standings.get(each.name)) for each in kind.endpoints)]
    down = {kind.name: kind.endpoints[0].name for kind in failing if waiting.get(kind.name)}
    if down and len(failing) == len(types):
        number, down = sum(map(waiting.__getitem__, down)), {EVERY_TYPE: next(iter(down.values()))}
        waiting[EVERY_TYPE] = number
    for subject, name in down.items():
        what, remedy = _failure(scene, name)
        yield _condition("no_endpoint", subject, number=counted(waiting[subject], "event"), what=what, remedy=remedy)
    last, run = scene.last, scene.run
    for name, calls in last.by_endpoint.items() if last else ():
        timeout_ms = endpoints[name].timeout_seconds * 1000 if name in endpoints else float("inf")
        if calls.p95_ms > SLOW_PART * timeout_ms:
            took, most = span(calls.p95_ms / 1000), span(timeout_ms / 1000)
            yield _condition("endpoint_slow", name, took=took, timeout=most)
    tally = troubles_of(scene.store.runs.tally(), endpoints) if run else last.troubles if last else ()
    for trouble in tally:
        if trouble.what == WEB_PAGE:
            yield _condition("answers_html", trouble.endpoint, number=counted(trouble.calls, "call"))


def _fails(entry: EndpointView | None) -> bool:
    return entry is not None and entry.health in RECOVERING and entry.failures >= FAILING


def _failure(scene: Scene, name: str) -> tuple[str, str]:
    """Return how an endpoint fails, in words, and what to do about it."""
    why = (scene.standings[name].circuit_reason or "").removeprefix(FAILING_WITH)
    endpoint = scene.store.settings.endpoints.get(name)
    address = address_of(endpoint.url) if endpoint else name
    fix = next((fix for words, fix in _FIXES.items() if why.startswith(words)), "see the log of the API at {address}")
    return f"{why or 'no answer'}, {address}", fix.format(address=address)


def _health(scene: Scene, name: str, entry: EndpointView) -> Iterator[Condition]:
    """Find out whether an endpoint or a budget takes calls as its limit allows, and soon."""
    if _fails(entry):
        what, remedy = _failure(scene, name)
        yield _condition("endpoint_failing", name, since=entry.since, what=what, remedy=remedy)
    elif entry.health == Circuit.RESTING:
        yield _condition("endpoint_throttled", name, left=span(entry.circuit_seconds), limit=entry.limit)
    elif entry.health == Circuit.PAUSED:
        by = f" by {entry.paused_by}" if entry.paused_by else ""
        until = f" until {entry.paused_until}" if entry.paused_until else ""
        yield _condition("endpoint_paused", name, since=entry.since, what=f"{by}{until}")
    elif entry.health == Circuit.FULL and not entry.free:
        wait = entry.next_slot_seconds or 0.0
        of_budget = entry.budget and scene.standings[entry.budget].next_slot_seconds == entry.next_slot_seconds
        if wait > scene.store.settings.run.window_seconds and not of_budget:
            until = f"{isoformat(scene.now_us / MICROSECONDS + wait)[11:19]} UTC"
            yield _condition("endpoint_full", name, limit=entry.limit, until=until)


# -- runs and books


def _run(scene: Scene) -> Iterator[Condition]:
    """Find out whether the open run stands still, and what went wrong in the last one."""
    if scene.run:
        yield from _standing_still(scene, scene.run)
    last = scene.last
    if last is None:
        return
    if last.state == State.FAILED:
        yield _condition("run_failed", "last run", run=last.run_id, what=last.failure)
    rested = {name for each in last.why if each.cause == "resting" for name in each.types}
    causes = [each for each in last.why if each.cause in _LEFT_REMEDIES and not rested.intersection(each.types)]
    if last.state == State.PARTIAL and causes:
        what = "; ".join(each.sentence for each in causes)
        remedy = _LEFT_REMEDIES[causes[0].cause]
        yield _condition("leftovers", "last run", run=last.run_id, what=what, remedy=remedy)
    left = [record.counts.leftover for record in scene.records]
    if len(left) == GROWING_RUNS and left[0] > left[1] > left[2] > 0:
        yield _condition("backlog_grows", "leftovers", numbers=listed([f"{number:,}" for number in reversed(left)]))
    for name, number in scene.store.leases.excess().items():
        if number:
            yield _condition("limit_exceeded", name, number=counted(number, "call"))


def _standing_still(scene: Scene, run: Run) -> Iterator[Condition]:
    overdue = -run.left_seconds(scene.now_us)
    if overdue > OVERDUE_SECONDS:
        what, remedy = f"should have been closed {span(overdue)} ago", "`rlm scheduler` closes it, or `rlm cancel`"
        yield _condition("run_stuck", "run", run=run.id, what=what, remedy=remedy)
        return
    waiting = {name: account.counts.pending for name, account in scene.books.by_type.items()}
    stuck = [
        kind
        for kind in scene.store.settings.event_types
        if waiting.get(kind.name) and any(_takes_calls(scene.standings.get(each.name)) for each in kind.endpoints)
    ]
    if run.state != State.RUNNING or run.first_release_at is None or not stuck:
        return
    ends = [call.ended_us for call in scene.store.calls.newest(NEWEST_CALLS)[0] if call.end is CallEnd.COMPLETED]
    began_us = round(run.first_release_at * MICROSECONDS)
    silent = (scene.now_us - max([began_us, *ends])) / MICROSECONDS
    if silent > max(STILL_SECONDS, 2 * max(kind.processing_seconds for kind in stuck)):
        number = counted(sum(waiting[kind.name] for kind in stuck), "event")
        what = f"has completed nothing for {span(silent)}, although {number} wait and slots are free"
        workers = scene.there.living(Role.WORKER)
        remedy = f"`rlm status` shows what lanes do; restart `rlm supervisor` on {_hosts_of(workers) or 'its host'}"
        yield _condition("run_stuck", "run", run=run.id, what=what, remedy=remedy)


def _takes_calls(entry: EndpointView | None) -> bool:
    return entry is not None and entry.health == Circuit.OK and entry.free > 0


def _books(scene: Scene) -> Iterator[Condition]:
    store, last = scene.store, scene.last
    if faults := [*scene.books.faults, *(miscounted(store, scene.books, last) if last else ())]:
        yield _condition("books_unbalanced", "books", what="; ".join(faults))
    most = store.settings.alarm.failed
    if most and scene.books.letters > most:
        yield _condition("dead_letters", "dead letters", number=counted(scene.books.letters, "dead letter"), most=most)


#: The checks by name, in the order of the report of `rlm doctor`.
CHECKS: Final[Mapping[str, Callable[[Scene], Iterator[Condition]]]] = {
    "redis": _redis,
    "clock": _clock,
    "keys": _keys,
    "configuration": _configuration,
    "scheduler": _scheduler,
    "workers": _workers,
    "hosts": _hosts,
    "run": _run,
    "endpoints": _endpoints,
    "books": _books,
}
#: Those that need to know who lives.
ANNOUNCED: Final = frozenset({"scheduler", "workers", "hosts"})
