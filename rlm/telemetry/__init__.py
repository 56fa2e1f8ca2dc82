"""How a process tells what it does: log lines on stderr, errors to Sentry where that is configured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.telemetry import logs, sentry
from rlm.telemetry.sentry import flush

if TYPE_CHECKING:
    from rlm.settings import Settings

__all__ = ["flush", "set_up"]


def set_up(settings: Settings, role: str) -> None:
    """Set logging and Sentry up for a process of this role. Call it before a broker is built."""
    logs.set_up()
    sentry.set_up(settings.sentry_dsn, role)
