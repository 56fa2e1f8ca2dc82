"""Sends errors to Sentry, and ticks to its Crons, with ids of runs and events but never a payload.

Code that logs does not know Sentry: a log handler sends each record of level ERROR. One that says that a condition has
begun (rlm/admin/watch.py) is one issue by its code and subject.
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
from sentry_sdk.types import Event, Hint
from sentry_sdk.utils import BadDsn, event_from_exception

from rlm import __version__
from rlm.core.errors import ConfigurationError
from rlm.settings import Settings
from rlm.settings.secrets import known
from rlm.telemetry.logs import FACTS, Bounded

#: Seconds that an ending process waits for its last errors to be sent.
FLUSH_SECONDS = 1.0
#: Each process sends one event per cause in this time, seconds; the next one has the number suppressed.
QUIET_SECONDS = 60.0

#: The context with the number of suppressed events of a cause.
CONTEXT = "rlm"

#: The keys of an event that may be sent; any other could hold a payload.
_ALLOWED = (
    "event_id", "timestamp", "level", "logger", "transaction", "platform", "release", "environment", "server_name",
    "sdk", "tags", "contexts", "logentry", "exception", "fingerprint",
    "type", "check_in_id", "monitor_slug", "status", "duration", "monitor_config",
)  # fmt: skip
#: Loggers of the transport to Sentry are not reported.
_NOT_SENT = ("sentry_sdk", "urllib3")
#: RLM's own messages have a placeholder for each value; those of libraries may already contain values.
_OWN = ("rlm.", "actors.", "scheduler.")
_PLACEHOLDER = re.compile(r"%(?:\(\w+\))?[-#0 +]*(?:\d+|\*)?(?:\.(?:\d+|\*))?[diouxXeEfFgGcrsa]")

#: Sentry accepts six check-ins a minute per monitor and counts in minutes, so only a minute's first tick checks in.
MINUTE_SECONDS = 60.0
#: Most characters of a slug in Sentry.
LONGEST_SLUG = 50
#: Minutes after which Sentry calls a check-in missed: the minimum.
MARGIN_MINUTES = 1
_UNITS = (("day", 1440), ("hour", 60), ("minute", 1))


def set_up(dsn: str, role: str, worker: str = "") -> None:
    """Report the errors of this process; `worker` is its id if it is a worker.

    `SENTRY_ENVIRONMENT` and `SENTRY_RELEASE` override `production` and `rlm@VERSION`. Raise ConfigurationError if the
    DSN is invalid; the message does not quote it, because it is a secret.
    """
    try:
        sentry_sdk.init(
            dsn=dsn,
            release=os.environ.get("SENTRY_RELEASE") or f"rlm@{__version__}",
            default_integrations=False,
            auto_enabling_integrations=False,
            integrations=[AtexitIntegration(callback=lambda _pending, _timeout: None)],  # without its message on stderr
            include_local_variables=False,
            max_request_body_size="never",
            max_breadcrumbs=0,
            traces_sample_rate=0.0,
            trace_propagation_targets=[],
            shutdown_timeout=FLUSH_SECONDS,
            before_send=_strip,
        )
    except BadDsn as error:
        raise ConfigurationError(
            "SENTRY_DSN: is not a DSN; allowed is what Sentry shows under Client Keys, https://KEY@HOST/PROJECT"
        ) from error
    for name, value in (("role", role), ("worker", worker)):
        if value:
            sentry_sdk.get_global_scope().set_tag(name, value)  # any other scope belongs to this thread only
    logging.getLogger().addHandler(Reporter(role))


def flush() -> None:
    """Wait until everything is sent to Sentry, for a process that ends without exit handlers."""
    sentry_sdk.flush(timeout=FLUSH_SECONDS)


class Reporter(logging.Handler):
    """Sends log records that are errors, at most one per cause in `QUIET_SECONDS`."""

    def __init__(self, role: str, bounded: Bounded | None = None) -> None:
        super().__init__(logging.ERROR)
        self._role = role
        self._bounded = bounded or Bounded(QUIET_SECONDS)

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record if it is an error; never raises."""
        if record.name.startswith(_NOT_SENT):
            return
        try:
            left_out = self._bounded.admit(tuple(fingerprint_of(record)))
            if left_out is not None:
                sentry_sdk.capture_event(self._event(record, left_out))
        except Exception:  # noqa: BLE001  # like other handlers
            self.handleError(record)

    def _event(self, record: logging.LogRecord, left_out: int) -> Event:
        """Return the event for a record; its title is what its condition means, or the message without values."""
        title = getattr(record, "headline", "") or _sentence(record)
        event: Any = {
            "level": "fatal" if record.levelno >= logging.CRITICAL else "error",
            "logger": record.name,
            "transaction": f"{self._role}: {getattr(record, 'action', '') or record.funcName}",
            "logentry": {"message": title, "formatted": title, "params": []},
            "fingerprint": fingerprint_of(record),
            "tags": {name: str(getattr(record, name)) for name in FACTS if getattr(record, name, None)},
            "contexts": {CONTEXT: {"left_out": left_out}},
        }
        if record.exc_info and record.exc_info[0] is not None:
            options = sentry_sdk.get_client().options
            event["exception"] = event_from_exception(record.exc_info, options)[0]["exception"]
        return event  # type: ignore[no-any-return]


def fingerprint_of(record: logging.LogRecord) -> list[str]:
    """Return the common part of one cause: condition and subject, or message without values and type of the error."""
    if condition := getattr(record, "condition", None):
        return ["rlm", condition, getattr(record, "subject", "")]
    kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
    return [record.name, _sentence(record), kind]


def _sentence(record: logging.LogRecord) -> str:
    """Return a record's message with an ellipsis for each value, because a value may be a payload."""
    if not isinstance(record.msg, str):
        return type(record.msg).__name__
    if not record.args and not record.name.startswith(_OWN):
        return f"{record.name}, line {record.lineno}"  # its message may already contain values
    return _PLACEHOLDER.sub("…", record.msg).replace("%%", "%")


def _strip(event: Event, _hint: Hint) -> Event | None:
    """Return an event with only the allowed keys, secrets masked, and no exception messages: they may quote data."""
    kept: Any = {key: event[key] for key in _ALLOWED if key in event}  # type: ignore[literal-required]
    if "contexts" in kept:
        numbers = (kept["contexts"] or {}).get(CONTEXT, {})
        kept["contexts"] = {CONTEXT: {name: one for name, one in numbers.items() if isinstance(one, int | float)}}
        if not numbers:
            del kept["contexts"]
    for exception in (kept.get("exception") or {}).get("values", []):
        exception["value"] = ""
    return _masked(kept)  # type: ignore[no-any-return]


def _masked(told: Any) -> Any:
    """Return a document with known secrets masked."""
    if isinstance(told, dict):
        return {key: _masked(value) for key, value in told.items()}
    if isinstance(told, list | tuple):
        return [_masked(value) for value in told]
    return known().mask(told) if isinstance(told, str) else told


def check_in(settings: Settings, due: float, *, ok: bool | None = None, seconds: float | None = None) -> None:
    """Report that the tick at `due`, in seconds since 1970, has begun or, with `ok`, how it ended.

    `seconds` is its duration by the clock of Redis, like `due`; without it Sentry computes one. The id of a check-in is
    derived from `due`, so any process that continues the run can end it; the first report of an end counts. A check-in
    without an end is ended by Sentry after `max_runtime`.
    """
    status = "in_progress" if ok is None else "ok" if ok else "error"
    every = settings.run.every_seconds
    if not checks_in(due, every):
        return
    slug = slug_of(settings.redis.prefix)
    environment = sentry_sdk.get_client().options.get("environment")
    capture_checkin(
        monitor_slug=slug,
        check_in_id=uuid5(NAMESPACE_URL, f"{slug}/{environment}/{due!r}").hex,
        status=status,
        duration=seconds,
        monitor_config=config_of(every, settings.run.window_seconds),
    )


def checks_in(due: float, every_seconds: float) -> bool:
    """Return whether the tick at `due` is the first of its minute."""
    return due // MINUTE_SECONDS != (due - every_seconds) // MINUTE_SECONDS


def slug_of(prefix: str) -> str:
    """Return the name of an installation's monitor; installations in one Sentry project differ in `redis.prefix`."""
    return f"{re.sub(r'[^a-z0-9_-]', '-', prefix.lower())[: LONGEST_SLUG - 5]}-tick"


def config_of(every_seconds: float, window_seconds: float) -> Any:
    """Return the monitor's settings in whole minutes, rounded up: a check-in may be early."""
    minutes = math.ceil(every_seconds / MINUTE_SECONDS)
    unit, length = next((unit, length) for unit, length in _UNITS if minutes % length == 0)
    return {
        "schedule": {"type": "interval", "value": minutes // length, "unit": unit},
        "checkin_margin": MARGIN_MINUTES,
        "max_runtime": math.ceil(window_seconds / MINUTE_SECONDS) + 1,
        "timezone": "UTC",
    }
