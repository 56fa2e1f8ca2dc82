"""Log lines on stderr and, if configured, errors to Sentry.

The Sentry library is loaded only if there is a DSN, because it costs each process 0.2 s and 4 MB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.telemetry import logs

if TYPE_CHECKING:
    from types import ModuleType

    from rlm.core.documents import Record
    from rlm.settings import Settings

__all__ = ["flush", "run_ended", "set_up", "tick_began", "tick_ended"]

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


def tick_began(settings: Settings, due: float) -> None:
    """Report to Sentry's Crons that the tick at `due`, in seconds since 1970, has begun."""
    for sentry in _reporting:
        sentry.check_in(settings, due)


def tick_ended(settings: Settings, due: float, *, ok: bool, seconds: float | None) -> None:
    """Report to Sentry's Crons how the tick at `due` ended, whoever began it, and after how many seconds."""
    for sentry in _reporting:
        sentry.check_in(settings, due, ok=ok, seconds=seconds)


def run_ended(settings: Settings, record: Record) -> None:
    """Report the end of the tick that a run served, if it served one."""
    from rlm.core.clock import timestamp  # noqa: PLC0415
    from rlm.core.run import State, Trigger  # noqa: PLC0415  # for those who have a record, and the rest with it
    from rlm.plan.causes import went_wrong  # noqa: PLC0415

    if record.trigger == Trigger.SCHEDULE:
        well = record.state != State.FAILED and not went_wrong(record.why)
        tick_ended(settings, timestamp(record.started_at), ok=well, seconds=record.duration_seconds)
