"""What `rlm doctor` looks at: each check tells what it found, and where that is not well, what to do."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from rlm.admin.doctor.advisories import check_advisories
from rlm.admin.doctor.archive import check_archive
from rlm.admin.doctor.configuration import check_configuration, unusable
from rlm.admin.doctor.endpoints import check_endpoints
from rlm.admin.doctor.events import check_orphans, check_stuck, check_unknown_types
from rlm.admin.doctor.examination import Examination
from rlm.admin.doctor.files import check_file, check_files
from rlm.admin.doctor.keys import check_keys
from rlm.admin.doctor.leader import check_leader
from rlm.admin.doctor.limits import check_limits
from rlm.admin.doctor.processes import check_scheduler, check_supervisor, check_versions, check_workers
from rlm.admin.doctor.reach import check_reach
from rlm.admin.doctor.selftests import check_selftests
from rlm.admin.doctor.sentry import check_sentry
from rlm.admin.doctor.server import check_clock, check_latency, check_memory, check_redis
from rlm.admin.doctor.times import check_times
from rlm.admin.doctor.work import check_books, check_last_run, check_run, check_staging
from rlm.core.errors import StoreError
from rlm.ledger import open_store
from rlm.ledger.embedded import running
from rlm.settings.secrets import EMBEDDED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from rlm.core.errors import ConfigurationError
    from rlm.ledger import Store
    from rlm.ledger.fitness import Finding
    from rlm.settings import Settings

__all__ = ["examine", "examine_without"]


def _times(store: Store) -> Iterator[Finding]:
    return check_times(store.settings.event_types, store.measures.kept())


#: What is looked at in Redis, by the name of its findings and in the order in which they are told.
IN_REDIS: Mapping[str, Callable[[Store], Iterable[Finding]]] = {
    "advisories": check_advisories,
    "latency": check_latency,
    "clock": check_clock,
    "memory": check_memory,
    "keys": check_keys,
    "scheduler": check_scheduler,
    "leader": check_leader,
    "supervisor": check_supervisor,
    "workers": check_workers,
    "versions": check_versions,
    "run": check_run,
    "last run": check_last_run,
    "orphans": check_orphans,
    "stuck": check_stuck,
    "types": check_unknown_types,
    "endpoints": check_endpoints,
    "limits": check_limits,
    "archive": check_archive,
    "times": _times,
    "selftest": check_selftests,
    "staging": check_staging,
    "books": check_books,
}
#: Those of them for which it does not matter what is configured.
ANYWHERE = {name: IN_REDIS[name] for name in ("advisories", "latency", "clock")}


def examine(settings: Settings, *, allow_volatile: bool) -> Iterator[Finding]:
    """Look at one thing after the other, whatever state the others are in."""
    here = Examination()
    yield from here.make("configuration", partial(check_configuration, settings), needs_redis=False)
    yield from here.make("files", partial(check_files, settings), needs_redis=False)
    yield from here.make("sentry", partial(check_sentry, settings), needs_redis=False)
    yield from here.make("reach", partial(check_reach, settings), needs_redis=False)
    yield from _in_redis(here, settings, IN_REDIS, allow_volatile=allow_volatile)


def examine_without(
    error: ConfigurationError, file: Path | None, sound: Settings | None, *, allow_volatile: bool
) -> Iterator[Finding]:
    """Tell what is wrong with the configuration in `file`, and look at what can be looked at without it.

    `sound` is what is left of it without the sections that are wrong, if that is enough to find Redis.
    """
    here = Examination()
    yield from unusable(error)
    if file is not None:
        yield from here.make("files", partial(check_file, file), needs_redis=False)
    if sound is not None and (sound.redis.url != EMBEDDED or running(sound.data_dir)):  # it is looked at, not started
        yield from _in_redis(here, sound, ANYWHERE, allow_volatile=allow_volatile)


def _in_redis(
    here: Examination,
    settings: Settings,
    checks: Mapping[str, Callable[[Store], Iterable[Finding]]],
    *,
    allow_volatile: bool,
) -> Iterator[Finding]:
    try:
        with open_store(settings) as store:
            yield from here.make("redis", partial(check_redis, store, allow_volatile=allow_volatile))
            for name, check in checks.items():
                yield from here.make(name, partial(check, store))
    except StoreError as error:  # the embedded server does not come up
        here.note("redis", error)
    yield from here.troubles()
