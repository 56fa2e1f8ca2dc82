"""Everything that is not well, as a list of conditions: found here by `conditions`, and shown everywhere as it is.

Each code has one severity, one sentence and one remedy in the table `KINDS`, filled with the facts that the checks
below find. docs/operations.md has the same table.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final, Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from rlm.admin.endpoints import FAILING_WITH, HELD_SECONDS, LONGER_PERIOD, RECOVERING, views
from rlm.admin.text import span
from rlm.core.call import CallEnd
from rlm.core.clock import isoformat, system_clock, timestamp
from rlm.core.documents import WEB_PAGE, CallCounts, Condition, EndpointView, Record
from rlm.core.endpoint import FAILING, Circuit, address_of, all_limited
from rlm.core.errors import StoreError, StoreForbiddenError, StoreGarbledError, StoreRefusingError, StoreUnfitError
from rlm.core.run import Run, State
from rlm.core.text import counted, named, safe_line
from rlm.ledger.books import Books, books, troubles_of
from rlm.ledger.connect import text
from rlm.ledger.leases import ALONE_SECONDS, Present, Standing, present
from rlm.ledger.processes import HEARTBEAT_TTL_SECONDS, Process, Role, WorkerState, host_of
from rlm.ledger.rules import MOST_CHANGES
from rlm.ledger.scripts import Command
from rlm.ledger.store import Flaw, Store, judge
from rlm.ledger.values import MICROSECONDS
from rlm.processes.sharing import entry_of, room, serving
from rlm.settings import Settings, differing

#: The conductor closes runs at their deadline. What is overdue for more seconds than this is neglected.
OVERDUE_SECONDS: Final = 5.0
#: A run that completes nothing for so many seconds stands still, if events wait and slots are free; if calls hold all
#: lanes, also for a third of its window.
STILL_SECONDS: Final = 30.0
#: Seconds within which a living scheduler takes a free lease; it looks four times a second.
TAKEOVER_SECONDS: Final = 2.0
#: The clocks of two hosts may differ by so much, seconds.
CLOCK_SECONDS: Final = 1.0
#: An endpoint is slow if it takes this part of its time-out for 19 of 20 calls.
SLOW_PART: Final = 0.8
#: A backlog grows if it did in so many runs, one after the other.
GROWING_RUNS: Final = 3


class Kind(NamedTuple):
    """What a code says: how bad it is, what it means in general, its sentence and its remedy.

    Both are filled with the facts of a condition, among which `why` and `fix` are its cause and what to do about that.
    `stops`: nothing is delivered while it lasts.
    """

    severity: Literal["info", "warning", "error"]
    meaning: str
    sentence: str
    remedy: str
    stops: bool = False


KINDS: Final[Mapping[str, Kind]] = {
    "redis_away": Kind("error", "Redis does not answer, or refuses", "{why}", "{fix}", stops=True),
    "redis_unfit": Kind(
        "error", "Redis refuses writes, may lose events, or is damaged", "Redis is not fit: {why}", "{fix}", stops=True,
    ),
    "redis_crowded": Kind(
        "error", "Redis takes no more clients", "Redis has as many clients as it takes: what connects now is refused",
        "raise its `maxclients`, or end some of those that `redis-cli CLIENT LIST` shows",
    ),
    "redis_slow": Kind(
        "warning", "Redis answers so late that slots cannot be used",
        "Redis takes {took} to answer {subject}, so slots come too late to be used",
        "look at its disk (`appendfsync`), `SLOWLOG GET` and the network; else raise `run.guard_seconds`",
    ),
    "redis_doubted": Kind(
        "warning", "endpoints are held, because their windows cannot be trusted",
        "{held} held, once, for the longest period of each, because {why}",
        "it ends by itself; if Redis was restored, failed over or crashed, or its clock was set, see its log",
    ),
    "clock_apart": Kind(
        "warning", "the clocks of Redis and of a host differ",
        "the clocks of Redis and of {subject} are {seconds} apart",
        "synchronise both by NTP (`chronyc tracking`, `timedatectl`)",
    ),
    "key_damaged": Kind(
        "error", "a key in Redis holds what RLM does not write, and what needs it waits",
        "{subject} holds what RLM does not write: {why}",
        "let RLM's user alone write there (docs/security.md), then `redis-cli DEL {subject}`; a window forgets its "
        "calls with that, so `rlm endpoint pause` its endpoint before, for its longest period",
    ),
    "no_scheduler": Kind(
        "error", "no scheduler leads, so no run starts",
        "no scheduler leads{names}, so no run starts{run}",
        "{fix}", stops=True,
    ),
    "no_supervisor": Kind(
        "error", "no supervisor starts workers",
        "no supervisor with the scheduler's configuration is heard from, so nothing is sent",
        "`rlm up` or `rlm supervisor` starts one",
    ),
    "no_worker": Kind(
        "error", "workers are wanted, and none is ready",
        "no worker is ready of {wanted:,} wanted: {why}",
        "{fix}", stops=True,
    ),
    "workers_missing": Kind(
        "warning", "fewer workers are ready than wanted", "{ready:,} ready of {wanted:,} wanted: {why}", "{fix}",
    ),
    "host_silent": Kind(
        "warning", "a scheduler or supervisor is not heard from, and did not sign off",
        "the {role} {name} is not heard from, and did not sign off: it died, or it hangs",
        "on {subject}, `kill -CONT {pid}` if it was stopped, else `kill -KILL {pid}`, and start another",
    ),
    "host_cut_off": Kind(
        "warning", "workers of one host can connect to no endpoint, while others can",
        "{asleep} of {subject} can connect to no endpoint: {why}",
        "look at route, resolver (/etc/resolv.conf), firewall and open files (`ulimit -n`) of {subject}",
    ),
    "other_configuration": Kind(
        "warning", "two configurations are in use on one prefix",
        "{theirs} differs in {parts} from {ours}",
        "{fix}; `rlm config show` names what each value comes from",
    ),
    "endpoint_failing": Kind(
        "warning", "an endpoint fails, rests, and is probed until it works",
        "{subject} fails ({why}, {address}); {probe} probes it",
        "{fix}; `rlm endpoint resume {subject}` ends its rest, `rlm endpoint pause {subject}` its probes",
    ),
    "endpoint_throttled": Kind(
        "warning", "an endpoint refuses calls, and rests as it asked",
        "{subject} refuses calls (HTTP 429 or 503) and rests for {left}",
        "if `rlm compliance` says that RLM kept its limit, {limit}, the API allows less, or others call it: `rlm "
        "endpoint limit {subject} RATE`; `rlm endpoint resume {subject}` ends the rest",
    ),
    "endpoint_paused": Kind(
        "info", "an operator paused an endpoint or a budget",
        "{subject} is paused {until}{by}",
        "`rlm endpoint resume {subject}`",
    ),
    "endpoint_rejects": Kind(
        "warning", "an endpoint rejects every call, and each becomes a dead letter",
        "{subject} rejected all {number} of the last run that called it: {why}, {address}",
        "`rlm failed list --endpoint {subject}` has the answers: correct its `url`, the API or what is pushed, then "
        "`rlm failed retry --endpoint {subject}`",
    ),
    "endpoint_slow": Kind(
        "warning", "an endpoint needs nearly its whole time-out",
        "{subject} answered 95 % of its {number} of the last run that called it in {took}, of {most} that it may take",
        "raise its `timeout_seconds`, or have the API look at it",
    ),
    "endpoint_full": Kind(
        "warning", "the slots of a limit are used up for longer than a window",
        "{subject} {why}: no call before {until} UTC",
        "it ends then; an endpoint more helps, or `rlm endpoint limit {subject} RATE`",
    ),
    "answers_html": Kind(
        "warning", "an endpoint answers with a web page, which counts as completed",
        "{subject} answered {number} with a web page (2xx of text/html), which counts as completed",
        'see whether it is a login page; `success = {{ content_type = "application/json" }}` makes it a failure',
    ),
    "no_endpoint": Kind(
        "error", "no endpoint of a type works, and its events wait",
        "no endpoint of {subject} works, with {waiting} waiting: {why}, {address}",
        "{fix}; the first good answer ends it, and `rlm endpoint resume {name}` ends the rest of one",
    ),
    "run_stuck": Kind(
        "error", "a run completes nothing, or is not closed", "run {run} {why}", "{fix}", stops=True,
    ),
    "run_failed": Kind(
        "error", "the last run could not be conducted",
        "run {run} failed: {why}",
        "its events are in the next run, which `rlm start` starts at once; `rlm result {run}` shows it",
    ),
    "leftovers": Kind(
        "warning", "the last run left events over: slots or lanes lacked, or calls failed", "run {run}: {why}", "{fix}",
    ),
    "limit_exceeded": Kind(
        "error", "the last run made more calls in a period than a limit allows",
        "{subject} got {number} more in one period than its limit allows",
        "`rlm endpoint pause {subject}` stops it; keep the output of `rlm compliance`, and report it",
    ),
    "books_unbalanced": Kind(
        "error", "not every event is accounted for",
        "the books do not balance: {why}",
        "keep a copy of the data of Redis and the logs, and report it",
    ),
    "backlog_grows": Kind(
        "warning", "each of the last three runs left more over than the one before",
        "the last three runs left {numbers} events over",
        "`rlm plan` says what binds: a limit (`rlm endpoint limit`, another endpoint), or `workers.max`",
    ),
    "dead_letters": Kind(
        "error", "there are more dead letters than alarm.failed",
        "there are {number}, more than alarm.failed ({most})",
        "`rlm failed list --grouped` says why; `rlm failed retry --all` sends them, `rlm failed drop ID` removes one",
    ),
    "no_archive": Kind(
        "error", "dead letters cannot be archived, so no more items are taken once there are too many",
        "on {subject} {why}",
        "make room on the disk of `archive.directory` there, or correct its owner",
    ),
}  # fmt: skip
#: What to do about an endpoint, by how its calls fail.
FIXES: Final[Mapping[str, str]] = {
    "connection refused": "start the API at {address}, or correct its `url`",
    "name not found": "correct its `url`, or the DNS entry of {address}",
    "no resolver answers": "look at /etc/resolv.conf of the workers' hosts",
    "not reachable": "look at the route and the firewall to {address}, and at the workers' open files (`ulimit -n`)",
    "lease ended": "see whether Redis or a worker's host stood still then: the log of `rlm supervisor` says so",
    "worker lost": "see the log of `rlm supervisor` for how its workers ended",
    "cut by the deadline": "have the API look at {address}, or lower its `timeout_seconds`",
    "no answer in time": "have the API look at {address}, or raise its `timeout_seconds`",
    "TLS certificate expired": "renew the certificate of {address}",
    "TLS certificate refused": "see whether the certificate of {address} is for that name and of a trusted CA",
    "TLS failed": "see whether {address} speaks TLS, or correct its `url`",
    **dict.fromkeys(("HTTP 401", "HTTP 403"), "correct the token in its `headers`, and restart"),
    **dict.fromkeys(("HTTP 404", "HTTP 405", "HTTP 410"), "correct its `url`, and restart"),
    "unexpected_answer": "`rlm explain` of one of its events shows the answer: correct the API, or `success`",
    "": "see the log of the API at {address}",
}
#: The subject of `no_endpoint` if it is so for all types; then nothing is delivered.
EVERY_TYPE: Final = "any type"


def _condition(code: str, subject: str, *, since: str | None = None, **facts: object) -> Condition:
    kind = KINDS[code]
    sentence, remedy = (safe_line(words.format(subject=subject, **facts)) for words in (kind.sentence, kind.remedy))
    return Condition(
        code=code, subject=safe_line(subject), severity=kind.severity, since=since, sentence=sentence, remedy=remedy
    )


class Scene(msgspec.Struct, frozen=True):
    """What is read to find conditions: the register, the run, the endpoints, the books, the newest records."""

    store: Store
    there: Present
    info: Mapping[str, Any]  #: what Redis says of itself, nothing if this user may not ask
    unfit: tuple[Flaw, ...]
    run: Run | None
    now_us: int
    books: Books  #: of the same instant
    standings: Mapping[str, EndpointView]
    records: tuple[Record, ...]
    begun: Mapping[str, float]  #: since when what was said lasts
    kinds: Sequence[bytes]  #: of which type each key is

    @property
    def last(self) -> Record | None:
        """The record of the last run."""
        return next(iter(self.records), None)


def look(store: Store, *, insists: bool = False, whole: bool = True) -> Scene:
    """Read the scene; `insists`: without a scheduler, an append-only file is required. Raise a StoreError.

    Some time after a run that left nothing over, or a doubt, no endpoint is read, unless the look is to be `whole`.
    """
    keys, unfit = store.keys, list[Flaw]()
    kinds = [("TYPE", key) for key in _kinds(store)] if whole else []
    read: list[Command] = [("HGETALL", keys.conditions), ("HKEYS", keys.records), ("HKEYS", keys.totals)]
    read += [("HKEYS", keys.tally), ("LRANGE", keys.changes, 0, MOST_CHANGES - 1), *kinds]
    try:
        there = present(store, *read, ("INFO",), ("HSET", keys.conditions, "", ""), ("HDEL", keys.conditions, ""))
    except StoreForbiddenError:  # this user may not ask, or not write
        there = present(store, *read)
    except StoreRefusingError as error:
        unfit.append(Flaw("writes", error.what, error.remedy))
        there = present(store, *read, ("INFO",))
    begun, ids, totals, tally, changes, *is_now = there.replies[: len(read)]
    info: dict[str, Any] = next(iter(there.replies[len(read) :]), {})
    if info:
        insists = any(each.insists_on_file for each in there.candidates) if there.candidates else insists
        unfit = [*judge(info, allow_volatile=not insists), *unfit]
    records = tuple(store.runs.records(store.runs.history(GROWING_RUNS, ids)))
    until = max(there.lease.doubted_at + HELD_SECONDS, *(timestamp(each.finished_at) + 15 for each in records), 0.0)
    whole = whole or bool(there.run) or there.now_us / MICROSECONDS < until or any(each.why for each in records[:1])
    limited = all_limited(store.endpoints(there.limits).values()) if whole else []
    at = books(store, store.ledger.types((totals, tally)), limited)
    standings = {each.name: each for each in views(store, there, at.windows, store.rules.changes(changes))}
    since = store.notes.begun(begun)
    return Scene(store, there, info, tuple(unfit), at.run, at.now_us, at, standings, records, since, is_now)


def conditions(store: Store, scene: Scene | None = None, *, whole: bool = True) -> tuple[Condition, ...]:
    """Return what is not well, the worst first. Without a `scene`, also if Redis does not answer.

    Unless the look is `whole` the type of each key is not asked for, nor, between runs, any endpoint.
    """
    return _worst_first(examined(store, scene, whole=whole))


def _worst_first(found: Mapping[str, Iterable[Condition]]) -> tuple[Condition, ...]:
    of_all = [condition for of_check in found.values() for condition in of_check]
    return tuple(sorted(of_all, key=lambda condition: ("error", "warning", "info").index(condition.severity)))


def examined(
    store: Store, scene: Scene | None = None, *, insists: bool = False, whole: bool = True
) -> dict[str, list[Condition]]:
    """Return what each check finds, by the name of the check; if Redis is no ledger, only that.

    `insists` and `whole` are as for `look` and `conditions`.
    """
    try:
        with store.guarded():  # whatever stands in Redis is a condition
            if scene is None:
                store.require_schema()
                scene = look(store, insists=insists, whole=whole)
            spared = {*(ANNOUNCED if _is_deaf(scene) else ()), *(() if whole else ("keys",))}
            found = {name: list(find(scene)) for name, find in CHECKS.items() if name not in spared}
    except StoreGarbledError as error:
        return {"redis": [*_away(error)], "keys": [*_keys(store, store.batch(("TYPE", key) for key in _kinds(store)))]}
    except StoreError as error:
        return {"redis": [*_away(error)]}
    return {name: [_since(each, scene.begun) for each in of_check] for name, of_check in found.items()}


def _is_deaf(scene: Scene) -> bool:
    """Return whether processes could not announce themselves just now: Redis refuses writes, or was away or still."""
    up_seconds, lease = scene.info.get("uptime_in_seconds", float("inf")), scene.there.lease
    silences = [silence for role in Role for _, entry, silence in scene.there.entries[role] if entry is None]
    is_back = max([-lease.left_seconds if lease.owner else 0.0, *silences]) > up_seconds < HEARTBEAT_TTL_SECONDS
    refuses = any(flaw.name == "writes" for flaw in scene.unfit)
    return is_back or refuses or scene.there.answer_seconds > TAKEOVER_SECONDS


def _away(error: StoreError) -> Iterator[Condition]:
    """Yield that Redis failed, so that nothing else is known, and that it takes no more clients if it says so."""
    if "max number of clients" in error.what:
        yield _condition("redis_crowded", "redis")
    remedy = error.remedy or "`rlm config show` names the Redis in use, redis.url"
    code = "redis_unfit" if isinstance(error, StoreUnfitError | StoreGarbledError) else "redis_away"
    yield _condition(code, "redis", why=error.what, fix=remedy)


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """A check of `rlm doctor`: that all is well there, or what to do."""

    name: str
    ok: bool
    remedy: str


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """What `rlm doctor` prints; `ok` unless a condition is an error."""

    ok: bool
    conditions: tuple[Condition, ...]
    findings: tuple[Checked, ...]


def examine(settings: Settings, *, allow_volatile: bool, fault: str = "") -> Examination:
    """Make all checks. Without a scheduler, a Redis that keeps no file is unfit unless `allow_volatile`.

    Of settings with a `fault` only the Redis is known: check who lives there, and goes on as it began.
    """
    try:
        with Store(settings) as store:
            checked = examined(store, insists=not allow_volatile)
    except StoreError as error:
        checked = {"redis": [*_away(error)]}
    if fault:
        checked = {name: of_check for name, of_check in checked.items() if name in {"redis", *ANNOUNCED}}
    lasting = _worst_first(checked)
    findings = tuple(
        Checked(name=name, ok=not of_check, remedy="; ".join(dict.fromkeys(each.remedy for each in of_check)))
        for name, of_check in checked.items()
    )
    findings += (Checked(name="configuration", ok=False, remedy=fault),) if fault else ()
    is_well = not fault and all(each.severity != "error" for each in lasting)
    return Examination(ok=is_well, conditions=lasting, findings=findings)


def name_of(condition: Condition) -> str:
    """Return the name under which it is noted since when a condition lasts."""
    return f"{condition.code} {condition.subject}"


def stops(condition: Condition) -> bool:
    """Return whether nothing is delivered while this lasts."""
    return KINDS[condition.code].stops or (condition.code, condition.subject) == ("no_endpoint", EVERY_TYPE)


def is_grave(condition: Condition) -> bool:
    """Return whether nothing would be delivered by a run."""
    return stops(condition) or condition.code in {"no_supervisor", "redis_crowded"}


def _since(condition: Condition, begun: Mapping[str, float]) -> Condition:
    at = begun.get(name_of(condition))
    return replace(condition, since=isoformat(at)) if condition.since is None and at else condition


# -- Redis


def _redis(scene: Scene) -> Iterator[Condition]:
    for flaw in scene.unfit:
        yield _condition("redis_unfit", flaw.name, why=flaw.message, fix=flaw.remedy)
    if scene.info.get("connected_clients", 0) >= scene.info.get("maxclients", float("inf")):
        yield _condition("redis_crowded", "redis")
    held = [entry for entry in scene.standings.values() if entry.health == Circuit.HELD]
    if held and held[0].circuit_reason != LONGER_PERIOD:
        _, _, why = (held[0].circuit_reason or "").partition(": ")
        yield _condition("redis_doubted", "redis", held=counted(len(held), "window"), why=why)


def _clock(scene: Scene) -> Iterator[Condition]:
    """Compare the clock of Redis with this host's, and how long it takes to answer with what is too long."""
    host, most = scene.store.settings.host_name, scene.store.settings.run.leaving_seconds
    took, ahead = scene.there.answer_seconds, scene.store.clock.now() - system_clock.now()
    if took > most:  # it may have connected first, or this machine was busy for a moment
        asked_at = system_clock.monotonic()
        scene.store.now()
        took = min(took, system_clock.monotonic() - asked_at)
    if took > most:
        yield _condition("redis_slow", host, took=f"{1000 * took:.0f} ms")
    if abs(ahead) > CLOCK_SECONDS + scene.there.answer_seconds / 2:
        yield _condition("clock_apart", host, seconds=span(abs(ahead)))


def _kinds(store: Store) -> dict[str, str]:
    """Return of which type each key is to be."""
    return store.keys.kinds(store.settings.types, [each.window_id for each in store.settings.endpoints.values()])


def _keys(store: Store, types: Iterable[bytes]) -> Iterator[Condition]:
    """Find keys of another type than RLM's, which stop what needs them."""
    for (key, wanted), is_now in zip(_kinds(store).items(), map(text, types), strict=True):
        if is_now not in {wanted, "none"}:
            yield _condition("key_damaged", key, why=f"a {is_now}")


# -- processes: a process that is missing from the register may still live, as Redis may have just lost its entry


def leader(there: Present) -> Process | None:
    """Return who leads; if nobody does, a process with the configuration in force; else who may lead next."""
    everybody = (*there.candidates, *there.living(*Role)) if there.lease.holder is None else ()
    return next(chain((each for each in everybody if each.revision == there.lease.revision), there.candidates), None)


def ticks_every_seconds(store: Store, there: Present) -> float:
    """Return the seconds between two runs, by the leading scheduler; by the settings if it does not say."""
    leads = leader(there)
    return (leads.ticks_every if leads else 0.0) or store.settings.run.every_seconds


def revision_in_force(store: Store, there: Present) -> str:
    """Return the revision of the open run, else of the scheduler, else of the settings; others claim nothing."""
    if there.run:
        return there.run.revision
    leads = leader(there)
    return leads.revision if leads else store.settings.revision


def kept_apart(store: Store, standing: Standing) -> str:
    """Return why a process with these settings may not lead, if other types or URLs are in force; else ''."""
    if not standing.apart_seconds:
        return ""
    file, host = store.settings.source or "the built-in configuration", store.settings.host_name
    theirs = f" of {standing.other}" if standing.other else ""
    return safe_line(
        f"the types or URLs of {file} on {host} differ from those in force{theirs}: it may lead "
        f"{standing.apart_seconds:.0f} s after the last process with those has gone"
    )


def _scheduler(scene: Scene) -> Iterator[Condition]:
    """Find out whether a scheduler leads: an expired lease that nobody takes shows the death of one."""
    there, schedulers, apart = scene.there, scene.there.living(Role.SCHEDULER), scene.there.lease.apart
    free_seconds = -there.lease.left_seconds if there.lease.owner else 0.0
    may_lead = [each for each in schedulers if apart in {"", each.apart}]
    if there.lease.holder is not None or (may_lead and free_seconds <= TAKEOVER_SECONDS):
        return
    names, fix = named([process.id for process in schedulers], 3), "`rlm up` or `rlm scheduler` starts one"
    in_force = [f"{each.pid} on {each.host} ({_file(each)})" for each in there.living(*Role) if each.apart == apart]
    if may_lead or not schedulers:
        fix = f"if it lives its log says why it does not lead; {fix}" if names else fix
        names = f" ({names} died, or may not)" if names else ""
    elif in_force:
        names = f" ({names} waits until {ALONE_SECONDS:.0f} s after the last process with the types and URLs in force)"
        fix = f"restart all with one file; with that in force: pid {named(in_force, 3)}"
    else:
        theirs = f"{_file(schedulers[0])} of pid {schedulers[0].pid} on {schedulers[0].host}"
        ours = f"what was in force, so no scheduler leads until {ALONE_SECONDS:.0f} s after the last process with that"
        facts = {"theirs": theirs, "parts": "types or URLs", "ours": ours, "fix": "it ends by itself"}
        yield _condition("other_configuration", "scheduler", **facts)
        return
    run = f"; nobody conducts run {scene.run.id}" if scene.run else ""
    yield _condition("no_scheduler", "scheduler", names=names, run=run, fix=fix)


def _workers(scene: Scene) -> Iterator[Condition]:
    """Find out whether the wanted workers are ready, or will be, and if not why."""
    store, there, run = scene.store, scene.there, scene.run
    revision = revision_in_force(store, there)
    workers = [each for each in there.living(Role.WORKER) if each.state != WorkerState.STOPPING]
    usable = [each for each in workers if each.revision in {"", revision}]
    able = [each for each in there.living(Role.SUPERVISOR) if each.revision in {"", revision}]
    if not usable and not able:
        yield _condition("no_supervisor", "supervisor")
        return
    ready = [each for each in usable if each.state == WorkerState.READY and not each.sleeping]
    wanted, coming = there.wanted, sum(each.state == WorkerState.STARTING for each in usable)
    lacking = bool(run.forecast and run.forecast.shortage) if run else len(ready) + coming < wanted
    if len(ready) >= wanted or not lacking:
        return
    trouble, most = [each.trouble for each in able if each.trouble], room(serving(able, revision))
    who, log = "others" if ready else "they", f"see the log of the supervisor on {_hosts_of(able)}"
    why, fix = f"{who} are not up yet, or make no calls", f"`rlm worker list` shows each; {log}"
    if not able:
        why, fix = "no supervisor is heard from", "`rlm up` or `rlm supervisor` starts one"
    elif trouble:
        why, fix = trouble[0], f"{log} for how they ended"
    elif most < wanted:
        why = f"the hosts take {most:,}"
        fix = "raise `workers.max_here`, or start `rlm supervisor` on another host"
    code = "workers_missing" if ready else "no_worker"
    yield _condition(code, "workers", ready=len(ready), wanted=wanted, why=why, fix=fix)


def _hosts_of(processes: Iterable[Process]) -> str:
    return named(sorted({process.host for process in processes}), 3)


def _hosts(scene: Scene) -> Iterator[Condition]:
    """Find processes that fell silent, and hosts whose workers can connect to no endpoint."""
    workers, roles = scene.there.living(Role.WORKER), (Role.SCHEDULER, Role.SUPERVISOR)
    succeeded = {(role, process.host) for role in roles for process in scene.there.living(role)}
    silent = {
        name: role
        for role in roles
        for name, entry, _ in scene.there.entries[role]
        if entry is None and (role, host_of(name)) not in succeeded
    }
    heard = {"", *(process.id for process in scene.there.living(Role.SUPERVISOR))}
    hanging = {process.supervisor: Role.SUPERVISOR for process in workers if process.supervisor not in heard}
    for name, role in (hanging | silent).items():
        host, pid, *_ = [*name.split(":"), ""]
        yield _condition("host_silent", host, role=role, name=name, pid=pid)
    asleep = {process.host: process.sleeping for process in workers if process.sleeping}
    failing = [_why(entry) for entry in scene.standings.values() if _fails(entry)]
    is_shared = any(why in sleeping for why in failing for sleeping in asleep.values())
    places = {process.host for process in workers}
    for host, why in asleep.items() if not is_shared and (len(asleep) < len(places) or len(places) == 1) else ():
        number = sum(process.host == host and bool(process.sleeping) for process in workers)
        yield _condition("host_cut_off", host, asleep=counted(number, "worker"), why=why)
    for process in scene.there.living(Role.SCHEDULER):
        if process.trouble:
            yield _condition("no_archive", process.host, why=process.trouble)


def _configuration(scene: Scene) -> Iterator[Condition]:
    """Find processes with another configuration than the scheduler that leads, and whether this one has another."""
    store, leads = scene.store, leader(scene.there)
    if leads is None or not leads.revision:
        return
    reader = entry_of(store.settings, "", os.getpid(), 0.0)
    others = [each for each in (reader, *scene.there.living(*Role)) if each.revision not in {"", leads.revision}]
    for subject, process in {f"{_file(each)} on {each.host}": each for each in others}.items():
        is_same = (_file(process), process.host) == (_file(leads), leads.host)
        who = "as read here" if process is reader else f"of pid {process.pid}"
        theirs = f"{_file(process)} {who} on {process.host}"
        ours = f"{'that' if is_same else _file(leads)} of pid {leads.pid} on {leads.host}, by which runs go"
        fix = "restart all with it" if is_same else f"restart those of {subject} with the file of the others"
        parts = " and ".join(differing(process.revision, leads.revision))
        yield _condition("other_configuration", subject, theirs=theirs, parts=parts, ours=ours, fix=fix)


def _file(process: Process) -> str:
    return process.file or "the built-in configuration"


# -- endpoints


def _endpoints(scene: Scene) -> Iterator[Condition]:
    for name, entry in scene.standings.items():
        yield from _health(scene, name, entry)
    types, fails = scene.store.settings.event_types, {name: _fails(entry) for name, entry in scene.standings.items()}
    shut = {name for name, entry in scene.standings.items() if fails[name] or entry.health == Circuit.PAUSED}
    waiting = {name: count.unsettled for name, count in scene.books.by_type.items()}
    ends = {kind.name: [each.name for each in kind.endpoints] for kind in types}
    failing = {name: [*filter(fails.get, names)] for name, names in ends.items() if shut.issuperset(names)}
    down = [(name, waiting[name], failed[0]) for name, failed in failing.items() if failed and waiting.get(name)]
    if down and len(failing) == len(types):
        down = [(EVERY_TYPE, sum(number for _, number, _ in down), down[0][2])]
    for subject, number, name in down:
        facts = _failure(scene, name, _why(scene.standings[name]))
        facts["fix"] += f"; {_next(scene)} calls it"
        if paused := [each for each in ends.get(subject, sorted(shut)) if not fails[each]]:
            facts["address"] += f"; an operator paused {named(paused, 3)}"
            facts["fix"] = f"`rlm endpoint resume {' '.join(paused[:3])}`; or {facts['fix']}"
        yield _condition("no_endpoint", subject, waiting=counted(number, "event"), **facts)
    yield from _answers(scene)


def _answers(scene: Scene) -> Iterator[Condition]:
    """Find out how endpoints answered in the run that called them last: before the next nobody knows that it is over.

    Of an endpoint that something was said of, that run may be any of the last hundred.
    """
    store, most_letters = scene.store, scene.store.settings.alarm.failed
    tally, said = scene.books.tally if scene.run else {}, {name.partition(" ")[2] for name in scene.begun}
    for name, endpoint in store.settings.endpoints.items():
        further = map(store.runs.record, store.runs.history(100) if name in said else ())
        records = (each for each in chain(scene.records, further) if each and name in each.by_endpoint)
        last = next((each for each in records if each.by_endpoint[name].calls), None)
        calls, is_live = last.by_endpoint[name] if last else CallCounts(), f"delivered:{name}" in tally
        if (took := (calls.p95_ms or 0.0) / 1000) > SLOW_PART * endpoint.timeout_seconds:
            number, most = counted(calls.completed, "call"), span(endpoint.timeout_seconds)
            yield _condition("endpoint_slow", name, number=number, took=span(took), most=most)
        troubles = troubles_of(tally, {name: endpoint}) if is_live else last.troubles if last else ()
        is_told = is_live or _fails(scene.standings.get(name)) or 0 < most_letters < scene.books.letters
        for each in (each for each in troubles if each.endpoint == name):
            facts = {"number": counted(each.calls, "call"), "why": each.what, "address": each.address}
            if each.what == WEB_PAGE:
                yield _condition("answers_html", name, **facts)
            elif each.what.startswith(("HTTP 3", "HTTP 4")) and each.calls == calls.errors >= FAILING and not is_told:
                yield _condition("endpoint_rejects", name, **facts)


def _fails(entry: EndpointView | None) -> bool:
    return entry is not None and entry.health in RECOVERING and entry.failures > 0


def _why(entry: EndpointView) -> str:
    return (entry.circuit_reason or "").removeprefix(FAILING_WITH)


def _failure(scene: Scene, name: str, why: str) -> dict[str, str]:
    """Return the facts how an endpoint fails, where it is, and what to do about it."""
    endpoint = scene.store.settings.endpoints.get(name)
    address = address_of(endpoint.written or endpoint.url) if endpoint else name
    fix = next(fix for begin, fix in FIXES.items() if why.startswith(begin))
    return {"name": name, "why": why or "no answer", "address": address, "fix": fix.format(address=address)}


def _is_used_up(scene: Scene, entry: EndpointView) -> bool:
    """Return whether no slot of a limit comes back within a window."""
    is_full = (entry.health == Circuit.FULL and not entry.free) or entry.circuit_reason == LONGER_PERIOD
    return is_full and (entry.next_slot_seconds or 0.0) > scene.store.settings.run.window_seconds


def _health(scene: Scene, name: str, entry: EndpointView) -> Iterator[Condition]:
    """Find out whether an endpoint or a budget takes calls as its limit allows, and soon."""
    if _fails(entry):
        waits = any(count.unsettled for kind, count in scene.books.by_type.items() if kind in entry.types)
        probe = "one event at a time" if waits else "the next event"
        yield _condition("endpoint_failing", name, since=entry.since, probe=probe, **_failure(scene, name, _why(entry)))
    elif entry.health in RECOVERING and entry.next_slot_seconds:
        yield _condition("endpoint_throttled", name, left=span(entry.next_slot_seconds), limit=entry.limit)
    elif entry.health == Circuit.PAUSED:
        left = entry.circuit_seconds
        until = "until it is resumed" if left is None else f"for another {span(left)}"
        by = f", by {entry.paused_by}" if entry.paused_by else ""
        yield _condition("endpoint_paused", name, since=entry.since, until=until, by=by)
    elif _is_used_up(scene, entry):
        wait = entry.next_slot_seconds
        if not entry.budget or scene.standings[entry.budget].next_slot_seconds != wait:
            until = isoformat(scene.now_us / MICROSECONDS + (wait or 0.0))[11:19]
            why = f"is held: {LONGER_PERIOD}" if entry.health == Circuit.HELD else f"has used up {entry.limit}"
            yield _condition("endpoint_full", name, why=why, until=until)


# -- runs and books


def _next(scene: Scene) -> str:
    """Return which run sends what waits, and how it begins."""
    return "the open run" if scene.run else "the next run (`rlm start` starts it at once)"


def _run(scene: Scene) -> Iterator[Condition]:
    """Find out whether the open run stands still, and what went wrong in the last one."""
    stuck = [*_standing_still(scene, scene.run)] if scene.run and not scene.unfit else []  # it stands still by that
    yield from stuck
    last = scene.last
    if last is None:
        return
    is_moving = stuck or last.counts.completed or (scene.run and "delivered:" in " ".join(scene.books.tally))
    cut = [each for each in last.troubles if each.what == "cut by the deadline"]
    if cut and not is_moving and "run_stuck run" in scene.begun:
        facts = _failure(scene, cut[0].endpoint, cut[0].what) | {"why": f"completed nothing: {last.failures}"}
        yield _condition("run_stuck", "run", run=last.run_id, **facts)
    if last.state == State.FAILED:
        yield _condition("run_failed", "last run", run=last.run_id, why=last.failure)
    # What else leaves events over is a condition itself, or an order.
    rested = {name for each in last.why if each.cause == "resting" for name in each.types}
    entries = [each for each in scene.standings.values() if (each.limit_at or "") > last.finished_at]
    entries += [each for each in scene.standings.values() if _is_used_up(scene, each)]
    others = {"lanes": rested, "retries": rested, "slots": rested.union(*(each.types for each in entries))}
    others |= {"workers": rested} if last.workers.restarted else {}  # some came, and ended
    why = [each for each in last.why if {*each.types} - others.get(each.cause, {*each.types})]
    if last.state == State.PARTIAL and (causes := {each.cause for each in why}):
        types = {name for each in why for name in each.types if each.cause != "slots"}
        ends = {name for name, entry in scene.standings.items() if types.intersection(entry.types)}
        failed = tuple(each for each in last.troubles if each.what != WEB_PAGE and each.endpoint in ends)
        fixes = [] if last.every_call_failed or causes <= {"retries", "workers"} else [KINDS["backlog_grows"].remedy]
        tally = scene.books.tally if scene.run else {}  # its good answers show what works again
        lasting = [each for each in failed if f"delivered:{each.endpoint}" not in tally]
        fixes += [_failure(scene, each.endpoint, each.what)["fix"] for each in lasting[:1]]
        fixes.append(f"{_next(scene)} has them")
        words = "; ".join(filter(None, [*(each.sentence for each in why), replace(last, troubles=failed).failures]))
        yield _condition("leftovers", "last run", run=last.run_id, why=words, fix="; ".join(fixes))
    left = [record.counts.leftover for record in scene.records]
    if len(left) == GROWING_RUNS and left[0] > left[1] > left[2] > 0:
        yield _condition("backlog_grows", "leftovers", numbers=", ".join(f"{number:,}" for number in reversed(left)))
    for name, number in scene.there.lease.excess.items():
        if number:
            yield _condition("limit_exceeded", name, number=counted(number, "call"))


def _standing_still(scene: Scene, run: Run) -> Iterator[Condition]:
    overdue = -run.left_seconds(scene.now_us)
    if overdue > OVERDUE_SECONDS:
        why = f"should have been closed {span(overdue)} ago"
        yield _condition("run_stuck", "run", run=run.id, why=why, fix="`rlm scheduler` closes it, or `rlm cancel`")
        return
    waits, types = run.waits.last if run.waits else {}, scene.store.settings.event_types
    # For a slow Redis that is said of it.
    waiting = {name: count.pending for name, count in scene.books.by_type.items() if waits.get(name) != "redis"}
    free = {name for name, entry in scene.standings.items() if entry.health == Circuit.OK and entry.free > 0}
    stuck = [kind for kind in types if waiting.get(kind.name) and free & {each.name for each in kind.endpoints}]
    if run.state != State.RUNNING or run.first_release_at is None or not stuck:
        return
    ends = [call.ended_us for call in scene.store.calls.newest(200)[0] if call.end is CallEnd.COMPLETED]
    silent = (scene.now_us - max([round(run.first_release_at * MICROSECONDS), *ends])) / MICROSECONDS
    is_lost = any(field.endswith(" worker lost") for field in scene.books.tally)  # then calls do not last
    is_held = "lanes" in {waits.get(kind.name) for kind in stuck}
    least = min(STILL_SECONDS, run.window_seconds / 3) if is_held else STILL_SECONDS
    if silent > max(least, *(2 * kind.processing_seconds for kind in types)):
        number = counted(sum(waiting[kind.name] for kind in stuck), "event")
        why = f"has completed nothing for {span(silent)}, although {number} wait and slots are free"
        hosts = _hosts_of(scene.there.living(Role.WORKER, Role.SUPERVISOR)) or "each host"
        fix = f"`rlm status` shows what lanes do; restart `rlm supervisor` on {hosts}"
        if is_held and not is_lost:
            why = f"has completed nothing for {span(silent)}: calls without an answer hold all lanes, and {number} wait"
            fix = "`rlm status` names their endpoints: have the API look at it, or lower its `timeout_seconds`"
        yield _condition("run_stuck", "run", run=run.id, why=why, fix=fix)


def _books(scene: Scene) -> Iterator[Condition]:
    store, last = scene.store, scene.last
    faults = scene.books.faults(last)
    if faults and last and store.runs.history(1) != [last.run_id]:  # another was closed meanwhile
        faults = scene.books.faults()
    if faults:
        yield _condition("books_unbalanced", "books", why="; ".join(faults))
    most = store.settings.alarm.failed
    if most and scene.books.letters > most:
        yield _condition("dead_letters", "dead letters", number=counted(scene.books.letters, "dead letter"), most=most)


#: The checks by name, in the order of the report of `rlm doctor`.
CHECKS: Final[Mapping[str, Callable[[Scene], Iterator[Condition]]]] = {
    "redis": _redis,
    "clock": _clock,
    "keys": lambda scene: _keys(scene.store, scene.kinds),
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
