"""Log lines on stderr: text for a person, JSON for a program, with the same facts.

Control characters are escaped and known secrets are masked in every line, including those of libraries.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Hashable, Mapping
from enum import StrEnum
from typing import Final, TextIO

from rlm.core.clock import Clock, isoformat, system_clock
from rlm.core.text import safe_line
from rlm.settings.secrets import known

#: Facts that a record may have besides its message, in their order.
FACTS = ("action", "run_id", "event_id", "endpoint", "lane", "worker", "condition", "subject")
#: The keys of a JSON line, in their order; facts and `exception` are optional.
KEYS = ("time", "level", "role", "pid", "logger", "message", *FACTS, "exception")

#: The variable with the format of log lines; child processes inherit it.
FORMAT_VARIABLE = "RLM_LOG_FORMAT"
#: The variable with the lowest level that is logged.
LEVEL_VARIABLE = "RLM_LOG"

_OWN = ("rlm", "actors", "scheduler")
_COLOURS = {"DEBUG": "2", "WARNING": "33", "ERROR": "31", "CRITICAL": "31;1"}

#: Most causes to remember; beyond that the oldest is forgotten.
MOST_CAUSES: Final = 1000


class LogFormat(StrEnum):
    """The format of log lines."""

    AUTO = "auto"  # text if stderr is a terminal, else JSON
    TEXT = "text"
    JSON = "json"


class LineFormatter(logging.Formatter):
    """Formats a record as one line: UTC time, level, sentence, facts; then a traceback with escaped line breaks."""

    def __init__(self, *, colour: bool = False) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        line = record.getMessage()
        facts = " ".join(f"{name}={getattr(record, name)}" for name in FACTS if getattr(record, name, None))
        if facts:
            line = f"{line}  [{facts}]"
        if record.exc_info:
            line = f"{line} | {self.formatException(record.exc_info)}"
        line = known().mask(line)
        if not line.isprintable() or safe_line(line) != line:
            line = line.encode("unicode_escape").decode("ascii")
        return f"{isoformat(record.created)[11:23]} {self._level(record.levelname)} {line}"

    def _level(self, name: str) -> str:
        shown = f"{name:<7}"
        return f"\x1b[{_COLOURS[name]}m{shown}\x1b[0m" if self._colour and name in _COLOURS else shown


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of ASCII JSON with the keys `KEYS`."""

    def __init__(self, role: str, worker: str = "") -> None:
        """Format records of a process of this role; `worker` is its id if it is a worker."""
        super().__init__()
        self._role = role
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        told: dict[str, object] = {
            "time": isoformat(record.created),
            "level": record.levelname,
            "role": self._role,
            "pid": record.process,
            "logger": record.name,
            "message": known().mask(record.getMessage()),
        }
        facts = {name: getattr(record, name, None) for name in FACTS}
        facts["worker"] = facts["worker"] or self._worker
        told |= {
            name: fact if isinstance(fact, int) else known().mask(str(fact)) for name, fact in facts.items() if fact
        }
        if record.exc_info:
            told["exception"] = known().mask(self.formatException(record.exc_info))
        return json.dumps(told, default=str)


def log_format(environ: Mapping[str, str], stream: TextIO) -> LogFormat:
    """Return the format set by `RLM_LOG_FORMAT`; `auto` depends on whether `stream` is a terminal."""
    asked = environ.get(FORMAT_VARIABLE, "").lower()
    if asked in {LogFormat.TEXT, LogFormat.JSON}:
        return LogFormat(asked)
    return LogFormat.TEXT if _is_terminal(stream) else LogFormat.JSON


def is_coloured(environ: Mapping[str, str], stream: TextIO) -> bool:
    """Return whether to use colours: on a terminal or with `FORCE_COLOR`, unless `NO_COLOR` is set."""
    if environ.get("NO_COLOR"):
        return False
    return bool(environ.get("FORCE_COLOR")) or (_is_terminal(stream) and environ.get("TERM") != "dumb")


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # the stream is closed
        return False


def set_up(role: str, worker: str = "") -> None:
    """Send log lines to stderr: RLM's from level `RLM_LOG` (default INFO), those of libraries from WARNING."""
    level = logging.getLevelNamesMapping().get(os.environ.get(LEVEL_VARIABLE, "").upper(), logging.INFO)

    def is_shown(record: logging.LogRecord) -> bool:
        is_own = record.name.partition(".")[0] in _OWN
        return record.levelno >= (level if is_own else max(level, logging.WARNING))

    handler = logging.StreamHandler(sys.stderr)
    if log_format(os.environ, sys.stderr) is LogFormat.JSON:
        handler.setFormatter(JsonFormatter(role, worker))
    else:
        handler.setFormatter(LineFormatter(colour=is_coloured(os.environ, sys.stderr)))
    handler.addFilter(is_shown)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for package in _OWN:  # conditions are warnings at least, and are logged at any level
        logging.getLogger(package).setLevel(min(level, logging.WARNING))
    # RLM reports late ticks itself.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    threading.excepthook = _log_end_of_thread
    logging.captureWarnings(True)  # otherwise Python prints them unmasked


def _log_end_of_thread(died: threading.ExceptHookArgs) -> None:
    name = died.thread.name if died.thread else "unknown"
    error = died.exc_value or died.exc_type()
    logging.getLogger("rlm.thread").critical(
        "The thread %s died of an error", name, exc_info=error, extra={"action": "end_thread"}
    )


class Bounded:
    """Admits one message per cause in a given time; thread-safe."""

    def __init__(self, seconds: float, clock: Clock = system_clock) -> None:
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        #: By cause: when one was last admitted, and how many were suppressed since; least recent first.
        self._last: dict[Hashable, tuple[float, int]] = {}

    def admit(self, cause: Hashable) -> int | None:
        """Return how many of this cause were suppressed since the last admitted one; None to suppress this one."""
        with self._lock:
            now = self._clock.monotonic()
            at, left_out = self._last.get(cause, (float("-inf"), 0))
            if now - at < self._seconds:
                self._last[cause] = at, left_out + 1
                return None
            self._last.pop(cause, None)  # so that it becomes the most recent
            self._last[cause] = now, 0
            if len(self._last) > MOST_CAUSES:
                del self._last[next(iter(self._last))]
            return left_out
