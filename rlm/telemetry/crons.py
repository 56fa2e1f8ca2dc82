"""The tick as a monitor of Sentry's Crons: when it is due, that it began, how it ended.

A tick's check-in has an id made from the moment it was due, so that whoever goes on with its run can end it. One that
nobody ends, because its scheduler was killed, Sentry ends itself after `max_runtime`.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

import sentry_sdk
from sentry_sdk.crons import capture_checkin

from rlm.core.clock import system_clock

if TYPE_CHECKING:
    from rlm.settings import Settings

#: Sentry takes six check-ins a minute of a monitor, and counts in minutes: of more ticks the first in each checks in.
MINUTE_SECONDS = 60.0
#: The slug where `redis.prefix` is the default.
MONITOR = "rlm-tick"
#: The characters that a slug may have at Sentry.
LONGEST_SLUG = 50
#: So late a check-in may be before Sentry calls it missed, minutes: the least there is.
MARGIN_MINUTES = 1

_UNITS = (("day", 1440), ("hour", 60), ("minute", 1))


def begin(settings: Settings, due: float) -> None:
    """Say that the tick that was `due` then (seconds since 1970) has begun."""
    _check_in(settings, due, "in_progress")


def end(settings: Settings, due: float, *, ok: bool) -> None:
    """Say how the tick that was `due` then ended; whoever says so first is heard."""
    _check_in(settings, due, "ok" if ok else "error", duration=max(0.0, system_clock.now() - due))


def _check_in(settings: Settings, due: float, status: str, duration: float | None = None) -> None:
    every = settings.run.every_seconds
    if not checks_in(due, every):
        return
    slug = slug_of(settings.redis.prefix)
    environment = sentry_sdk.get_client().options.get("environment")
    capture_checkin(
        monitor_slug=slug,
        check_in_id=uuid5(NAMESPACE_URL, f"{slug}/{environment}/{due!r}").hex,
        status=status,
        duration=duration,
        monitor_config=config_of(every, settings.run.window_seconds),
    )


def checks_in(due: float, every_seconds: float) -> bool:
    """Tell whether the tick that was `due` then is the first of its minute."""
    return due // MINUTE_SECONDS != (due - every_seconds) // MINUTE_SECONDS


def slug_of(prefix: str) -> str:
    """Name the monitor of an installation: two that share a project of Sentry have another `redis.prefix` each."""
    return f"{re.sub(r'[^a-z0-9_-]', '-', prefix.lower())[: LONGEST_SLUG - 5]}-tick"


def config_of(every_seconds: float, window_seconds: float) -> Any:
    """Return what Sentry is to expect. It knows whole minutes: a part of one is rounded up, and to be early is fine."""
    minutes = math.ceil(every_seconds / MINUTE_SECONDS)
    unit, length = next((unit, length) for unit, length in _UNITS if minutes % length == 0)
    return {
        "schedule": {"type": "interval", "value": minutes // length, "unit": unit},
        "checkin_margin": MARGIN_MINUTES,
        "max_runtime": math.ceil(window_seconds / MINUTE_SECONDS) + 1,
        "timezone": "UTC",
    }
