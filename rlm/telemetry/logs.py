"""Log lines on stderr: text for a person, JSON for a program, with the same facts.

Control characters are escaped and known secrets are masked in every line, including those of libraries.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Mapping
from typing import TextIO

from rlm.core.clock import isoformat
from rlm.core.text import safe_line
from rlm.settings.secrets import mask

#: Facts that a record may have besides its message, in their order.
FACTS = ("action", "run_id", "event_id", "endpoint", "lane", "worker", "condition", "subject")
#: The keys of a JSON line, in their order; facts and `exception` are optional.
KEYS = ("time", "level", "role", "pid", "logger", "message", *FACTS, "exception")

#: The variable with the format of log lines; child processes inherit it.
FORMAT_VARIABLE = "RLM_LOG_FORMAT"
#: The variable with the lowest level that is logged.
LEVEL_VARIABLE = "RLM_LOG"

_OWN = ("rlm", "actors", "scheduler")


def facts_of(record: logging.LogRecord) -> dict[str, int | str]:
    """Return the facts that a record has."""
    facts = ((name, getattr(record, name, None)) for name in FACTS)
    return {name: fact if isinstance(fact, int) else str(fact) for name, fact in facts if fact}


class LineFormatter(logging.Formatter):
    """Formats a record as one line: UTC time, level, sentence, facts; then a traceback with escaped line breaks."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        line, facts = record.getMessage(), " ".join(f"{name}={fact}" for name, fact in facts_of(record).items())
        line += f"  [{facts}]" if facts else ""
        line += f" | {self.formatException(record.exc_info)}" if record.exc_info else ""
        return f"{isoformat(record.created)[11:23]} {record.levelname:<7} {safe_line(mask(line))}"


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of ASCII JSON with those of the keys `KEYS` for which it has a value."""

    def __init__(self, role: str, worker: str = "") -> None:
        """Format records of a process of this role; `worker` is its id if it is a worker."""
        super().__init__()
        self._of_process = {"role": role, "worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        values = {
            "time": isoformat(record.created),
            "level": record.levelname,
            "pid": record.process,
            "logger": record.name,
            "message": record.getMessage(),
            "exception": record.exc_info and self.formatException(record.exc_info),
            **self._of_process,
            **facts_of(record),
        }
        return mask(json.dumps({key: values[key] for key in KEYS if values.get(key)}))


def is_json(environ: Mapping[str, str], stream: TextIO) -> bool:
    """Return whether log lines are JSON: as `RLM_LOG_FORMAT` says, else if `stream` is no terminal."""
    chosen = environ.get(FORMAT_VARIABLE, "").lower()
    return chosen == "json" or (chosen != "text" and not stream.isatty())


def is_coloured(environ: Mapping[str, str], stream: TextIO) -> bool:
    """Return whether to use colours: on a terminal or with `FORCE_COLOR`, unless `NO_COLOR` is set."""
    if environ.get("NO_COLOR"):
        return False
    return bool(environ.get("FORCE_COLOR")) or (stream.isatty() and environ.get("TERM") != "dumb")


def set_up(role: str, worker: str = "") -> None:
    """Send log lines to stderr: RLM's from level `RLM_LOG` (default INFO), those of libraries from WARNING."""
    level = logging.getLevelNamesMapping().get(os.environ.get(LEVEL_VARIABLE, "").upper(), logging.INFO)

    def is_shown(record: logging.LogRecord) -> bool:
        is_own = record.name.partition(".")[0] in _OWN
        return record.levelno >= (level if is_own else max(level, logging.WARNING))

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(role, worker) if is_json(os.environ, sys.stderr) else LineFormatter())
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
