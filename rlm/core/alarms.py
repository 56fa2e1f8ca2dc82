"""The alarms: a log record that somebody should look at has one of these words in `alarm`, one word per cause.

The code that finds a cause logs a sentence with `alarm`, and the relevant numbers in `counts`. Telemetry decides what
else happens: Sentry gets one issue per cause.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Self


class Alarm(StrEnum):
    """Causes. Sentry shows the headline, so it is the same for every alarm of a cause."""

    headline: str

    def __new__(cls, word: str, headline: str) -> Self:
        """Return the member with its word and headline."""
        made = str.__new__(cls, word)
        made._value_ = word
        made.headline = headline
        return made

    LEFTOVERS = "leftovers", "A run finished with leftovers"
    RUN_FAILED = "run_failed", "A run failed"
    LIMIT_EXCEEDED = "limit_exceeded", "A rate limit was exceeded"
    BOOKS_UNBALANCED = "books_unbalanced", "The books do not balance"
    DEAD_LETTERS = "dead_letters", "There are more dead letters than alarm.failed"
    BREAKER_OPEN = "breaker_open", "An endpoint keeps failing and is rested"
    WORKER_SLEEPS = "worker_sleeps", "A worker can connect to no endpoint, and sleeps"
    WORKER_DIED = "worker_died", "A worker ended unexpectedly"
    PROCESS_DIED = "process_died", "A scheduler or supervisor ended unexpectedly"
    NO_WORKER = "no_worker", "Workers cannot be started, or do not stay up"
    OTHER_CONFIGURATION = "other_configuration", "Processes with different configurations share one prefix"
    REDIS_AWAY = "redis_away", "Redis is away, or refuses commands"
    REDIS_UNFIT = "redis_unfit", "Redis is not fit: it would lose what is written to it"
    REDIS_FORGOT = "redis_forgot", "Redis cannot be trusted to know all calls"
    CLOCK_STEPPED = "clock_stepped", "The clock of Redis stepped"
    KEY_DAMAGED = "key_damaged", "A key in Redis holds what RLM does not write"
    NO_ARCHIVE = "no_archive", "Dead letters cannot be archived"


def alarm(cause: Alarm, action: str, *, counts: Mapping[str, float] | None = None, **facts: str) -> dict[str, Any]:
    """Return the `extra` of a log record that is an alarm. `counts` holds numbers, never content of an item."""
    return {"alarm": cause, "action": action, **({"counts": dict(counts)} if counts else {}), **facts}
