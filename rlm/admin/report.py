"""What is now: the open run, with the keys of its record, or the time between two; workers and hosts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from msgspec import structs

from rlm.admin.conditions import Scene, conditions, look, revision_in_force, ticks_every_seconds
from rlm.admin.endpoints import changes_made
from rlm.admin.errors import BadQuestionError, NoSuchRunError
from rlm.admin.queue import lengths
from rlm.admin.start_run import ANSWER_SECONDS, POLL_SECONDS
from rlm.core import documents
from rlm.core.clock import isoformat, system_clock, timestamp
from rlm.core.item import Counts
from rlm.core.run import Run, State
from rlm.core.text import named
from rlm.delivery.run_end import make_record
from rlm.ledger.books import Ending
from rlm.ledger.leases import Present, present
from rlm.ledger.processes import Role, WorkerState, host_of
from rlm.ledger.rules import Change
from rlm.ledger.store import Store
from rlm.ledger.values import MICROSECONDS
from rlm.processes.sharing import divide, serving
from rlm.settings.secrets import EMBEDDED, mask_url


def status_of(store: Store, prefix: str) -> documents.RunStatus | documents.Record:
    """Return the open or finished run whose id begins so; raise a NoSuchRunError if there is none."""
    run_id, opened = find_run(store, prefix), now(store)
    if isinstance(opened, documents.RunStatus) and opened.run_id == run_id:
        return opened
    return record(store, run_id or prefix)


def now(store: Store) -> documents.RunStatus | documents.Rest:
    """Return the open run, or the time between two runs."""
    scene = look(store)
    if scene.run:
        return _open_status(store, scene, scene.run)
    there, now, every_seconds = scene.there, scene.now_us / MICROSECONDS, ticks_every_seconds(store, scene.there)
    return documents.Rest(
        last=scene.last.run_id if scene.last else None,
        last_tick=isoformat(there.lease.ticked_at) if there.lease.ticked_at else None,
        conditions=conditions(store, scene),
        installation=installation(store),
        last_record=scene.last,
        next_tick=isoformat((now // every_seconds + 1) * every_seconds),
        waiting=lengths(scene.books),
        endpoints=scene.standings,
        schedulers=len(there.living(Role.SCHEDULER)),
        workers=len(there.living(Role.WORKER)),
        hosts=hosts(store, there),
    )


def record(store: Store, run_id: str | None) -> documents.Record:
    """Return the record of a run, or of the last finished one; raise a NoSuchRunError if there is none."""
    if run_id is None:
        newest = next(iter(store.runs.recent(10)), None)  # the last may be damaged
        if newest is None:
            raise NoSuchRunError(none_finished(store))
        return newest
    finished = store.runs.record(run_id) if run_id.isascii() else None  # every id is ASCII
    if finished is None:
        run = store.runs.current()
        if run is not None and run.id == run_id:
            raise NoSuchRunError(f"Run {run_id!r} has not finished; see `rlm status`.")
        raise NoSuchRunError(f"No run {run_id!r} is known. `rlm list` names the recent ones.")
    return finished


def find_run(store: Store, prefix: str | None) -> str | None:
    """Return the id that begins with `prefix`, or `prefix` if none does; raise a BadQuestionError for several."""
    if not prefix:
        return prefix
    matching = runs_beginning(store, prefix)
    if len(matching) > 1 and prefix not in matching:
        raise BadQuestionError(f"{prefix!r} begins the ids of several runs: {named(matching, 5)}.")
    return prefix if prefix in matching or not matching else matching[0]


def runs_beginning(store: Store, prefix: str) -> list[str]:
    """Return the ids of runs that begin with `prefix`: the open run first, then those on record, newest first."""
    run = store.runs.current()
    known = dict.fromkeys([*([run.id] if run else []), *store.runs.history()])
    return [run_id for run_id in known if run_id.startswith(prefix)]


def none_finished(store: Store) -> str:
    """Return the message that there is no record, with the next command to type."""
    run = store.runs.current()
    if run is not None:
        return f"No run has finished yet; {run.id} is under way, see `rlm status`."
    return "No run has finished yet. Start one with `rlm start --wait`."


def installation(store: Store) -> documents.Installation:
    """Return what a view looks at."""
    settings = store.settings
    redis = mask_url(settings.redis.url)
    return documents.Installation(
        config=None if settings.source is None else str(settings.source),
        redis=f"{redis} ({settings.data_dir})" if redis == EMBEDDED else redis,
        prefix=settings.redis.prefix,
    )


def _open_status(store: Store, scene: Scene, run: Run) -> documents.RunStatus:
    """Return an open run with the fields of its record, as far as they are known, and its present state.

    Peaks and durations are not known: to read them takes longer in a longer run, and a view is redrawn often.
    """
    to_take = scene.books.staged + (0 if run.staged else scene.books.events)
    there, now_us, standings = scene.there, scene.now_us, scene.standings
    ending = Ending(scene.books.tally, store.endpoints(there.limits), (), there.restarts, None, now_us)
    known = make_record(store.settings, run, ending)
    now = run.moment(now_us)
    common = {field: getattr(known, field) for field in documents.RunDocument.__struct_fields__}
    places, each = scene.books.by_type, worker_list(store, there)
    by_type = {
        name: documents.LiveTypeCounts(
            **structs.asdict(entry), inflight=at.inflight, backing_off=at.backing_off, spent=at.spent
        )
        for name, entry, at in ((name, entry, places.get(name, Counts())) for name, entry in known.by_type.items())
    }
    workers = documents.LiveWorkers(
        **structs.asdict(known.workers),
        now=len(each),
        ready=sum(it.state == WorkerState.READY and not (it.other_configuration or it.sleeping) for it in each),
        wanted=there.wanted,
        other_configuration=sum(worker.other_configuration for worker in each),
        each=each,
    )
    return documents.RunStatus(
        **common | {"state": run.state, "by_type": by_type},
        endpoints=standings,
        plan=run.plan,
        forecast=run.forecast,
        workers=workers,
        to_take=0 if run.state is State.FINISHING else to_take,
        conductor=there.lease.holder,
        hosts=hosts(store, there),
        conditions=conditions(store, scene),
        as_of=isoformat(now),
        seconds_left=round(max(0.0, run.left_seconds(now_us)), 3),
        called_seconds=None if run.first_release_at is None else round(max(0.0, now - run.first_release_at), 3),
    )


def worker_list(store: Store, there: Present | None = None) -> tuple[documents.Worker, ...]:
    """Return the workers with their host, start and calls."""
    there = there or present(store)
    workers, revision = there.living(Role.WORKER), revision_in_force(store, there)
    lanes = store.processes.lanes([worker.id for worker in workers])
    return tuple(
        documents.Worker(
            pid=worker.pid,
            host=worker.host,
            state=worker.state,
            sleeping=worker.sleeping or None,
            threads=worker.threads,
            busy=len(busy),
            started_at=isoformat(worker.started_at),
            other_configuration=worker.revision != revision,
            calls=tuple(
                documents.CallNow(
                    event_id=lane.event_id,
                    endpoint=lane.endpoint,
                    seconds=round(max(0, there.now_us - lane.taken_us) / MICROSECONDS, 3),
                )
                for lane in busy
            ),
        )
        for worker, busy in zip(workers, lanes, strict=True)
    )


def scaling(store: Store) -> documents.Scaling:
    """Return how many workers are wanted and exist, for a program that starts hosts accordingly."""
    register = store.processes.register()
    alive = register.living(Role.WORKER)
    return documents.Scaling(
        wanted=max(register.wanted, store.settings.workers.min),
        alive=len(alive),
        ready=sum(worker.state == WorkerState.READY for worker in alive),
    )


def hosts(store: Store, there: Present | None = None) -> tuple[documents.Host, ...]:
    """Return every host that works, stands by or did not sign off, by name."""
    there = there or present(store)
    schedulers, supervisors, workers = map(there.living, (Role.SCHEDULER, Role.SUPERVISOR, Role.WORKER))
    shares = divide(there.wanted, serving(supervisors, there.lease.revision))
    supervised = {supervisor.host for supervisor in supervisors}
    silent = {host_of(name) for name, entry, _ in there.entries[Role.SUPERVISOR] if entry is None} - supervised
    entries = []
    for host in sorted(silent.union(process.host for process in (*schedulers, *supervisors, *workers))):
        own = [supervisor for supervisor in supervisors if supervisor.host == host]
        standing_by = [
            "leader" if each.id == there.lease.holder else "standby" for each in schedulers if each.host == host
        ]
        entries.append(
            documents.Host(
                host=host,
                state="silent" if host in silent else "ready" if own else "unsupervised",
                capacity=max((each.offer.capacity for each in own if each.offer), default=None),
                share=sum(shares.get(each.id, 0) for each in own),
                workers=sum(worker.host == host for worker in workers),
                scheduler=min(standing_by, default=None),
            )
        )
    return tuple(entries)


# -- runs: page by page; one over time; the open one cancelled


class RunPage(NamedTuple):
    """Some records, and the id before which the list goes on, None at its end."""

    records: list[documents.Record]
    next: str | None


def runs_page(store: Store, number: int, before: str = "") -> RunPage:
    """Return the newest `number` records before the id `before`; ids sort by time."""
    ids = [run_id for run_id in store.runs.history() if not before or run_id < before]
    return RunPage([*store.runs.records(ids[:number])], ids[number - 1] if len(ids) > number else None)


def listed(store: Store, number: int) -> list[documents.RunListed]:
    """Return what `rlm list --json` prints of the newest `number` runs."""
    return msgspec.convert(runs_page(store, number).records, list[documents.RunListed], from_attributes=True)


class RunCourse(NamedTuple):
    """A run over time, in seconds from its start: the calls, those `missing` from the log, and what was changed."""

    calls: Sequence[float]
    missing: int
    changes: Sequence[tuple[float, Change]]


def course(store: Store, run: documents.Record | documents.RunStatus) -> RunCourse:
    """Return a finished or an open run over time."""
    began = timestamp(run.started_at)
    ended = timestamp(run.as_of if isinstance(run, documents.RunStatus) else run.finished_at) + 0.001  # it is truncated
    logged = store.calls.since(began, ended + 1.0)
    calls = sorted(round(call.sent_us / MICROSECONDS - began, 3) for call in logged if call.run_id == run.run_id)
    changes = [(each.at - began, each) for each in reversed(changes_made(store)) if began <= each.at <= ended]
    missing = max(0, sum(entry.calls for entry in run.by_endpoint.values()) - len(calls))
    return RunCourse(calls, missing, changes)


def open_run(store: Store, prefix: str | None) -> Run:
    """Return the open run; raise a NoSuchRunError if there is none, or `prefix` does not begin its id."""
    run, run_id = store.runs.current(), find_run(store, prefix)
    if run is None or run_id not in {None, run.id}:
        raise NoSuchRunError(f"Run {run_id!r} is not open." if run_id else "No run is open; nothing to cancel.")
    return run


def cancel(store: Store, run: Run) -> None:
    """Cancel a run, so that it ends now; its conductor closes it."""
    store.runs.cancel(run.id)
    store.processes.wake("scheduler")


def cancelled(store: Store, run: Run) -> documents.Record | documents.RunStatus:
    """Return the record of a cancelled run; its status if it is still waiting for calls after a while."""
    until = system_clock.monotonic() + ANSWER_SECONDS
    while (record := store.runs.record(run.id)) is None and system_clock.monotonic() < until:
        system_clock.sleep(POLL_SECONDS)
    return record or status_of(store, run.id)
