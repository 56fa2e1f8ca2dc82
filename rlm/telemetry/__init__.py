"""Log lines on stderr and, if configured, errors to Sentry.

The Sentry library is loaded only if there is a DSN, because it costs each process 0.2 s and 4 MB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.telemetry import logs

if TYPE_CHECKING:
    from types import ModuleType

    from rlm.settings import Settings

#: Contains `rlm.telemetry.sentry` if this process reports to Sentry.
_reporting: list[ModuleType] = []


def set_up(settings: Settings, role: str, worker: str = "") -> None:
    """Set up logging and Sentry for a process of this role and `worker` id; call it before a broker is built."""
    logs.set_up(role, worker)
    if settings.sentry_dsn is not None:
        from rlm.telemetry import sentry  # noqa: PLC0415  # see above

        sentry.set_up(settings.sentry_dsn, role, worker)
        _reporting[:] = [sentry]


def flush() -> None:
    """Wait until everything is sent to Sentry, for a process that ends without exit handlers."""
    for sentry in _reporting:
        sentry.flush()


def tick(settings: Settings, due: float, *, ok: bool | None = None, seconds: float | None = None) -> None:
    """Report to Sentry's Crons that the tick at `due`, in seconds since 1970, has begun or, with `ok`, how it ended."""
    for sentry in _reporting:
        sentry.check_in(settings, due, ok=ok, seconds=seconds)
