"""What `rlm up` prints where a program reads it: lines of JSON, its own and whatever its processes say."""

from __future__ import annotations

import json
from datetime import UTC
from typing import TYPE_CHECKING, TextIO

from rlm.foreman import ALARM_COLOUR

if TYPE_CHECKING:
    from honcho.printer import Message


class JsonPrinter:
    """Takes the place of honcho's printer. A line that is JSON already is passed on, any other becomes a message."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        #: As wide as names are; here it does not matter.
        self.width = 0

    def write(self, message: Message) -> None:
        """Print what a process said."""
        data = message.data
        text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
        for line in text.splitlines():
            print(line if _is_document(line) else _wrapped(message, line), file=self._output)
        self._output.flush()


def _is_document(line: str) -> bool:
    try:
        return line.isascii() and isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _wrapped(message: Message, line: str) -> str:
    moment = message.time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    level = "ERROR" if message.colour == ALARM_COLOUR else "INFO"
    return json.dumps({"time": moment, "level": level, "role": message.name, "message": line})
