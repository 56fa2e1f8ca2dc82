"""Log lines: a sentence for a person, and the same facts as `key=value` for a machine, control characters escaped."""

from __future__ import annotations

import logging
import os
import sys
from datetime import UTC, datetime

#: Facts that a record may carry besides its sentence, in the order they are shown.
FACTS = ("action", "run_id", "event_id", "endpoint", "lane")

#: The logger of dramatiq's consumer of the queue `rlm`, the only one there is (`actors/broker.py`).
CONSUMER = "dramatiq.worker.ConsumerThread(rlm)"


class LineFormatter(logging.Formatter):
    """One record a line: time in UTC, level, sentence, facts; a traceback follows with its line breaks escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Render a record."""
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        line = f"{moment} {record.levelname:<7} {record.getMessage()}"
        facts = " ".join(f"{name}={getattr(record, name)}" for name in FACTS if getattr(record, name, None))
        if facts:
            line = f"{line}  [{facts}]"
        if record.exc_info:
            line = f"{line} | {self.formatException(record.exc_info)}"
        return line.encode("unicode_escape").decode("ascii") if not line.isprintable() else line


def set_up() -> None:
    """Send log lines to stderr: RLM's from `RLM_LOG` (default INFO) on, the libraries' from WARNING on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    level = os.environ.get("RLM_LOG", "INFO").upper()
    for package in ("rlm", "actors", "scheduler"):
        logging.getLogger(package).setLevel(level if level in logging.getLevelNamesMapping() else "INFO")
    # A scheduler that is late says so by starting late; and RLM remembers the tick.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    # A consumer without Redis tries again twice a second. That Redis is away RLM tells itself, as no error of its own.
    logging.getLogger(CONSUMER).addFilter(_is_no_outage)


def _is_no_outage(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Consumer encountered a connection error")
