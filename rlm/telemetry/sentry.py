"""Errors to Sentry: run and event ids, never a payload, never a limit wait. The tick is a Crons monitor."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sentry_sdk
from sentry_sdk.integrations.atexit import AtexitIntegration
from sentry_sdk.integrations.excepthook import ExcepthookIntegration
from sentry_sdk.integrations.logging import LoggingIntegration

from rlm import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sentry_sdk.types import Event, Hint

#: The slug of the scheduler's Crons monitor.
MONITOR = "rlm-tick"
#: How long a process that ends waits for its last errors to be sent, seconds.
FLUSH_SECONDS = 1.0

#: Tags taken over from a log record's facts.
_TAGS = ("action", "run_id", "event_id", "endpoint")
#: What may leave of an event; everything else could hold a payload.
_ALLOWED = (
    "event_id",
    "timestamp",
    "level",
    "logger",
    "platform",
    "release",
    "environment",
    "server_name",
    "sdk",
    "tags",
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


def set_up(dsn: str | None, role: str) -> None:
    """Report the errors of this process to Sentry; without a DSN do nothing."""
    if dsn is None:
        return
    sentry_sdk.init(
        dsn=dsn,
        release=f"rlm@{__version__}",
        default_integrations=False,
        auto_enabling_integrations=False,
        integrations=[
            LoggingIntegration(level=None, event_level=logging.ERROR),
            ExcepthookIntegration(always_run=True),  # a process that dies of an error of ours
            AtexitIntegration(callback=lambda _pending, _timeout: None),  # without its words on stderr
        ],
        include_local_variables=False,
        max_request_body_size="never",
        send_default_pii=False,
        traces_sample_rate=0.0,
        trace_propagation_targets=[],
        before_send=_strip,
    )
    sentry_sdk.set_tag("role", role)


def flush() -> None:
    """Let what is on its way to Sentry arrive, before a process ends that runs no exit handlers."""
    if sentry_sdk.is_initialized():
        sentry_sdk.flush(timeout=FLUSH_SECONDS)


def _strip(event: Event, hint: Hint) -> Event | None:
    """Keep what is allowed; take the ids from the log record; group by what the code says, not by its values."""
    record = hint.get("log_record")
    kept: Any = {key: event[key] for key in _ALLOWED if key in event}  # type: ignore[literal-required]
    if isinstance(record, logging.LogRecord):
        kept["tags"] = {
            **dict(event.get("tags") or {}),
            **{name: str(getattr(record, name)) for name in _TAGS if getattr(record, name, None)},
        }
        words = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        kept["logentry"] = {"message": words, "formatted": words, "params": []}
        kept["fingerprint"] = [record.name, words]
    for exception in (kept.get("exception") or {}).get("values", []):
        exception["value"] = ""  # an exception's words may quote a payload; its type and place are enough
    return kept  # type: ignore[no-any-return]


@contextmanager
def monitored_tick(every_seconds: float, window_seconds: float) -> Iterator[None]:
    """Check in with Sentry's Crons while a tick's work is done; without a DSN do nothing."""
    if not sentry_sdk.is_initialized():
        yield
        return
    minutes = max(1, round(every_seconds / 60))
    config: Any = {
        "schedule": {"type": "interval", "value": minutes, "unit": "minute"},
        "checkin_margin": 1,
        "max_runtime": max(1, round(window_seconds / 60) + 1),
        "timezone": "UTC",
    }
    with sentry_sdk.monitor(monitor_slug=MONITOR, monitor_config=config):
        yield
