"""The checks of `rlm doctor`: each returns what it found, and the remedy if something is wrong."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from rlm.admin.doctor.endpoints import check_endpoints, check_limits, check_times
from rlm.admin.doctor.events import (
    check_books,
    check_last_run,
    check_orphans,
    check_run,
    check_staging,
    check_stuck,
    check_unknown_types,
)
from rlm.admin.doctor.files import check_archive, check_configuration, check_file, check_files, unusable
from rlm.admin.doctor.findings import Examination
from rlm.admin.doctor.keys import check_keys, check_selftests
from rlm.admin.doctor.processes import check_leader, check_scheduler, check_supervisor, check_versions, check_workers
from rlm.admin.doctor.reach import check_reach, check_sentry
from rlm.admin.doctor.server import check_advisories, check_clock, check_latency, check_memory, check_redis
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


#: The checks of Redis by the name of their findings, in the order of the report.
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
#: The checks that do not depend on the configuration.
ANYWHERE = {name: IN_REDIS[name] for name in ("advisories", "latency", "clock")}


def examine(settings: Settings, *, allow_volatile: bool) -> Iterator[Finding]:
    """Make one check after the other, whatever the others find."""
    here = Examination()
    yield from here.make("configuration", partial(check_configuration, settings), needs_redis=False)
    yield from here.make("files", partial(check_files, settings), needs_redis=False)
    yield from here.make("sentry", partial(check_sentry, settings), needs_redis=False)
    yield from here.make("reach", partial(check_reach, settings), needs_redis=False)
    yield from _in_redis(here, settings, IN_REDIS, allow_volatile=allow_volatile)


def examine_without(
    error: ConfigurationError, file: Path | None, sound: Settings | None, *, allow_volatile: bool
) -> Iterator[Finding]:
    """Report the faults of the configuration in `file`, and check what can be checked without it.

    `sound` is the configuration without the faulty sections, if that is enough to find Redis.
    """
    here = Examination()
    yield from unusable(error)
    if file is not None:
        yield from here.make("files", partial(check_file, file), needs_redis=False)
    if sound is not None and (sound.redis.url != EMBEDDED or running(sound.data_dir)):  # a check starts no server
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
