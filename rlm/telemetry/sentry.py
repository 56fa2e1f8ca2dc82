"""Sends errors to Sentry, and ticks to its Crons, with ids of runs and events but never a payload.

Code that logs does not know Sentry: its integration sends each record of level ERROR. One that says that a condition
has begun (rlm/admin/watch.py) is one issue by its code and subject.
"""

from __future__ import annotations

import logging
import math
import os
import re
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import sentry_sdk
from sentry_sdk.crons import capture_checkin
from sentry_sdk.integrations.atexit import AtexitIntegration
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.types import Event, Hint

from rlm import __version__
from rlm.core.clock import system_clock
from rlm.settings import Settings
from rlm.settings.secrets import mask
from rlm.telemetry import FLUSH_SECONDS
from rlm.telemetry.logs import facts_of

#: Each process sends one event per cause in this time, seconds.
QUIET_SECONDS = 60.0

#: The keys of an event that may be sent; any other could hold a payload.
_ALLOWED = (
    "event_id", "timestamp", "level", "logger", "transaction", "platform", "release", "environment", "server_name",
    "sdk", "tags", "logentry", "exception", "fingerprint",
    "type", "check_in_id", "monitor_slug", "status", "duration", "monitor_config",
)  # fmt: skip
#: RLM's own messages have a placeholder for each value; those of libraries may contain them already.
_OWN = ("rlm.", "actors.", "scheduler.")

#: Sentry accepts six check-ins a minute per monitor and counts in minutes, so only a minute's first tick checks in.
MINUTE_SECONDS = 60.0


def set_up(dsn: str, role: str, worker: str = "") -> None:
    """Report the errors of this process; `worker` is its id if it is a worker."""
    sentry_sdk.init(
        dsn=dsn,
        release=os.environ.get("SENTRY_RELEASE") or f"rlm@{__version__}",  # the library reads SENTRY_ENVIRONMENT
        default_integrations=False,
        auto_enabling_integrations=False,
        integrations=[
            AtexitIntegration(callback=lambda _pending, _timeout: None),  # without its message on stderr
            LoggingIntegration(level=None, sentry_logs_level=None),
        ],
        include_local_variables=False,
        max_request_body_size="never",
        max_breadcrumbs=0,
        traces_sample_rate=0.0,
        trace_propagation_targets=[],
        shutdown_timeout=FLUSH_SECONDS,
        before_send=_strip,
    )
    for name, value in (("role", role), ("worker", worker)):
        if value:
            sentry_sdk.get_global_scope().set_tag(name, value)  # any other scope belongs to this thread only


#: When each cause was last sent, monotonic seconds. There are few, because they hold no values.
_sent_at: dict[tuple[str, ...], float] = {}


def fingerprint_of(record: logging.LogRecord) -> tuple[str, ...]:
    """Return the common part of one cause: condition and subject, or message without values and type of the error."""
    if condition := getattr(record, "condition", None):
        return "rlm", condition, getattr(record, "subject", "")
    kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
    return record.name, _title(record), kind


def _title(record: logging.LogRecord) -> str:
    """Return a record's message with its placeholders, because a value may be a payload."""
    if not isinstance(record.msg, str):
        return type(record.msg).__name__
    if not record.args and not record.name.startswith(_OWN):
        return f"{record.name}, line {record.lineno}"  # its message may already contain values
    return record.msg


def _strip(event: Event, hint: Hint) -> Event | None:
    """Return an event with only the allowed keys, secrets masked, and no exception messages: they may quote data.

    That of a log record is None if its cause was sent in the last `QUIET_SECONDS`. Its title is what its condition
    means, or the message without values.
    """
    allowed: Any = {key: event[key] for key in _ALLOWED if key in event}  # type: ignore[literal-required]
    if record := hint.get("log_record"):
        now, cause = system_clock.monotonic(), fingerprint_of(record)
        if now < _sent_at.get(cause, float("-inf")) + QUIET_SECONDS:
            return None
        _sent_at[cause] = now
        title, tags = getattr(record, "headline", "") or _title(record), allowed.get("tags", {})
        allowed["transaction"] = f"{tags.get('role')}: {getattr(record, 'action', '') or record.funcName}"
        allowed["logentry"] = {"message": title, "formatted": title, "params": []}
        allowed["fingerprint"] = cause
        allowed["tags"] = tags | {name: str(fact) for name, fact in facts_of(record).items()}
    for exception in (allowed.get("exception") or {}).get("values", []):
        exception["value"] = ""
    return _masked(allowed)  # type: ignore[no-any-return]


def _masked(document: Any) -> Any:
    """Return a document with known secrets masked."""
    if isinstance(document, dict):
        return {key: _masked(value) for key, value in document.items()}
    if isinstance(document, list | tuple):
        return [_masked(value) for value in document]
    return mask(document) if isinstance(document, str) else document


def check_in(settings: Settings, due: float, *, ok: bool | None = None, seconds: float | None = None) -> None:
    """Report that the tick at `due`, in seconds since 1970, has begun or, with `ok`, how it ended.

    `seconds` is its duration by the clock of Redis, like `due`; without it Sentry computes one. The id of a check-in is
    derived from the tick's number, so any process that continues the run can end it; the first report of an end counts.
    A check-in without an end is ended by Sentry after `max_runtime`.
    """
    run, minute = settings.run, due // MINUTE_SECONDS
    if (due - run.every_seconds) // MINUTE_SECONDS == minute:
        return
    # Installations in one Sentry project differ in the prefix. A slug has at most 50 characters.
    slug = f"{re.sub(r'[^a-z0-9_-]', '-', settings.redis.prefix.lower())[:45]}-tick"
    environment = sentry_sdk.get_client().options.get("environment")
    every = math.ceil(run.every_seconds / MINUTE_SECONDS)  # rounded up: a check-in may be early
    capture_checkin(
        monitor_slug=slug,
        check_in_id=uuid5(NAMESPACE_URL, f"{slug}/{environment}/{round(due / run.every_seconds)}").hex,
        status="in_progress" if ok is None else "ok" if ok else "error",
        duration=seconds,
        monitor_config={
            "schedule": {"type": "interval", "value": every, "unit": "minute"},
            "checkin_margin": 1,  # the minimum
            "max_runtime": math.ceil(run.window_seconds / MINUTE_SECONDS) + 1,
            "timezone": "UTC",
        },
    )
