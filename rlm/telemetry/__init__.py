"""Log lines on stderr and, if configured, errors to Sentry.

The Sentry library is loaded only if there is a DSN, because it costs each process 0.2 s and 4 MB.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rlm.telemetry import logs

if TYPE_CHECKING:
    from rlm.settings import Settings

#: Seconds that an ending process waits for its last errors to be sent.
FLUSH_SECONDS = 1.0


def set_up(settings: Settings, role: str, worker: str = "") -> None:
    """Set up logging and Sentry for a process of this role and `worker` id; call it before a broker is built."""
    logs.set_up(role, worker)
    if settings.sentry_dsn is not None:
        from rlm.telemetry import sentry  # noqa: PLC0415  # see above

        sentry.set_up(settings.sentry_dsn, role, worker)


def flush() -> None:
    """Wait until everything is sent to Sentry, for a process that ends without exit handlers."""
    if sdk := sys.modules.get("sentry_sdk"):
        sdk.flush(timeout=FLUSH_SECONDS)


def tick(settings: Settings, due: float, *, ok: bool | None = None, seconds: float | None = None) -> None:
    """Report to Sentry's Crons that the tick at `due`, in seconds since 1970, has begun or, with `ok`, how it ended."""
    if settings.sentry_dsn is not None:
        from rlm.telemetry import sentry  # noqa: PLC0415  # see above

        sentry.check_in(settings, due, ok=ok, seconds=seconds)
