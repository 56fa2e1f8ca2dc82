"""Errors and alarms to Sentry, and ticks to its Crons: run and event ids, never a payload.

The code that logs does not know of Sentry: a log handler sends each record of level ERROR or with an `alarm`.
"""

from __future__ import annotations

import logging
import math
import os
import re
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

import sentry_sdk
from sentry_sdk.crons import capture_checkin
from sentry_sdk.integrations.atexit import AtexitIntegration
from sentry_sdk.utils import BadDsn, event_from_exception

from rlm import __version__
from rlm.core.alarms import Alarm
from rlm.core.clock import system_clock
from rlm.core.errors import ConfigurationError
from rlm.settings.secrets import known
from rlm.telemetry.logs import Bounded

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint

    from rlm.settings import Settings


#: How long a process that ends waits for its last errors to be sent, seconds.
FLUSH_SECONDS = 1.0
#: One event of a cause is sent in this time by each process, seconds; the next one tells how many were left out.
QUIET_SECONDS = 60.0

#: Tags taken over from a log record's facts.
TAGS = ("action", "run_id", "event_id", "endpoint", "lane", "worker", "alarm")
#: Alarms that are errors to Sentry, for nothing is sent, or not as it should be, until somebody acts; others warn.
ERRORS = frozenset({
    Alarm.RUN_FAILED, Alarm.NO_WORKER, Alarm.REDIS_AWAY, Alarm.REDIS_UNFIT, Alarm.NO_ARCHIVE,
})  # fmt: skip
#: The context that holds a record's numbers, and how many of its cause were left out.
CONTEXT = "rlm"

#: What may leave of an event; everything else could hold a payload.
_ALLOWED = (
    "event_id",
    "timestamp",
    "level",
    "logger",
    "transaction",
    "platform",
    "release",
    "environment",
    "server_name",
    "sdk",
    "tags",
    "contexts",
    "logentry",
    "exception",
    "fingerprint",
    "type",
    "check_in_id",
    "monitor_slug",
    "status",
    "duration",
    "monitor_config",
)
#: What talks about sending itself is not sent.
_NOT_SENT = ("sentry_sdk", "urllib3")
#: The code's own sentences have a placeholder for each value; a library may have put the values in already.
_OWN = ("rlm.", "actors.", "scheduler.")
_PLACEHOLDER = re.compile(r"%(?:\(\w+\))?[-#0 +]*(?:\d+|\*)?(?:\.(?:\d+|\*))?[diouxXeEfFgGcrsa]")


def set_up(dsn: str, role: str, worker: str = "") -> None:
    """Report the errors and alarms of this process, which is of that `role`; `worker` is its id where it is one.

    `SENTRY_ENVIRONMENT` and `SENTRY_RELEASE` are honoured; without them it is `production` and `rlm@VERSION`.

    Raises:
        ConfigurationError: the DSN is none. It is not quoted, for it is a secret.
    """
    try:
        sentry_sdk.init(
            dsn=dsn,
            release=os.environ.get("SENTRY_RELEASE") or f"rlm@{__version__}",
            default_integrations=False,
            auto_enabling_integrations=False,
            integrations=[AtexitIntegration(callback=lambda _pending, _timeout: None)],  # without its words on stderr
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
            "SENTRY_DSN: is no DSN; allowed is what Sentry shows under Client Keys, https://KEY@HOST/PROJECT"
        ) from error
    for name, value in (("role", role), ("worker", worker)):
        if value:
            sentry_sdk.get_global_scope().set_tag(name, value)  # any other scope is this thread's only
    logging.getLogger().addHandler(Reporter(role))


def flush() -> None:
    """Let what is on its way to Sentry arrive, before a process ends that runs no exit handlers."""
    sentry_sdk.flush(timeout=FLUSH_SECONDS)


class Reporter(logging.Handler):
    """Sends log records that are errors or alarms, of each cause one in a while."""

    def __init__(self, role: str, bounded: Bounded | None = None) -> None:
        super().__init__(logging.WARNING)
        self._role = role
        self._bounded = bounded or Bounded(QUIET_SECONDS)

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record if it is to be sent; trouble with that is never the caller's."""
        alarm = getattr(record, "alarm", None)
        if (record.levelno < logging.ERROR and not alarm) or record.name.startswith(_NOT_SENT):
            return
        try:
            left_out = self._bounded.admit(tuple(fingerprint_of(record)))
            if left_out is not None:
                sentry_sdk.capture_event(self._event(record, left_out))
        except Exception:  # noqa: BLE001  # logging's own way: it tells of it on stderr where that is wanted
            self.handleError(record)

    def _event(self, record: logging.LogRecord, left_out: int) -> Event:
        """Write the event of a record: the title of its alarm, or its sentence without the values in it."""
        alarm = getattr(record, "alarm", None)
        title = alarm.headline if isinstance(alarm, Alarm) else _sentence(record)
        event: Any = {
            "level": _level_of(record),
            "logger": record.name,
            "transaction": f"{self._role}: {getattr(record, 'action', '') or record.funcName}",
            "logentry": {"message": title, "formatted": title, "params": []},
            "fingerprint": fingerprint_of(record),
            "tags": {name: str(getattr(record, name)) for name in TAGS if getattr(record, name, None)},
            "contexts": {CONTEXT: {**(getattr(record, "counts", None) or {}), "left_out": left_out}},
        }
        if record.exc_info and record.exc_info[0] is not None:
            options = sentry_sdk.get_client().options
            event["exception"] = event_from_exception(record.exc_info, options)[0]["exception"]
        return event  # type: ignore[no-any-return]


def fingerprint_of(record: logging.LogRecord) -> list[str]:
    """Return what events of one cause have in common: the alarm, or what the code says and the error behind it."""
    if alarm := getattr(record, "alarm", None):
        return ["rlm", str(alarm)]
    kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
    return [record.name, _sentence(record), kind]


def _level_of(record: logging.LogRecord) -> Any:
    alarm = getattr(record, "alarm", None)
    if alarm:
        return "error" if alarm in ERRORS else "warning"
    return "fatal" if record.levelno >= logging.CRITICAL else "error"


def _sentence(record: logging.LogRecord) -> str:
    """Return what a record says with an ellipsis for each value: a value may be a payload."""
    if not isinstance(record.msg, str):
        return type(record.msg).__name__
    if not record.args and not record.name.startswith(_OWN):
        return f"{record.name}, line {record.lineno}"  # the values may be in its words already
    return _PLACEHOLDER.sub("…", record.msg).replace("%%", "%")


def _strip(event: Event, _hint: Hint) -> Event | None:
    """Keep what is allowed, by name, without known secrets; of an exception type and place: its words may quote."""
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
    """Return what is to be sent without the secrets of this process."""
    if isinstance(told, dict):
        return {key: _masked(value) for key, value in told.items()}
    if isinstance(told, list | tuple):
        return [_masked(value) for value in told]
    return known().mask(told) if isinstance(told, str) else told


#: Sentry takes six check-ins a minute of a monitor, and counts in minutes: of more ticks the first in each checks in.
MINUTE_SECONDS = 60.0
#: The slug where `redis.prefix` is the default.
MONITOR = "rlm-tick"
#: The characters that a slug may have at Sentry.
LONGEST_SLUG = 50
#: So late a check-in may be before Sentry calls it missed, minutes: the least there is.
MARGIN_MINUTES = 1

_UNITS = (("day", 1440), ("hour", 60), ("minute", 1))


def begin_check_in(settings: Settings, due: float) -> None:
    """Say that the tick that was `due` then (seconds since 1970) has begun."""
    _check_in(settings, due, "in_progress")


def end_check_in(settings: Settings, due: float, *, ok: bool) -> None:
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
