"""What `rlm up` prints, its own lines and those of its processes: for a person, or as JSON."""

from __future__ import annotations

import json
import os
import re
from textwrap import wrap
from typing import Final, TextIO

from honcho.printer import Message

from rlm.core.clock import isoformat
from rlm.processes.procfile import ALARM_COLOUR, OWN_NAME
from rlm.telemetry.logs import CLOCK

#: A log line for a person: the time, then the rest.
_DATED: Final = re.compile(r"(\d\d:\d\d:\d\d\.\d{3}) (.*)", re.DOTALL)
#: The fewest columns to wrap a line to; on a narrower terminal, the terminal breaks it.
_LEAST_WIDTH: Final = 40
#: How the line begins with which a command of RLM says why it ends.
_FAILED: Final = "Error: "
_COLOURS: Final = re.compile(r"\x1b\[[\d;]*m")


class _Printer:
    """Replaces honcho's printer, which has the width of the names."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self.width = 0

    def write(self, message: Message) -> None:
        """Print what a process said."""
        data = message.data
        text: str = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
        for line in text.splitlines():
            print(self._shown(message, line), file=self._output)
        self._output.flush()

    def _shown(self, message: Message, line: str) -> str:
        raise NotImplementedError


class TextPrinter(_Printer):
    """Prints the time in UTC, the process, and what it said; on a terminal wrapped at words."""

    def __init__(self, output: TextIO, *, coloured: bool) -> None:
        super().__init__(output)
        self._coloured = coloured

    def _shown(self, message: Message, line: str) -> str:
        dated = _DATED.fullmatch(line)
        moment, said = dated.groups() if dated else (isoformat(message.time.timestamp())[CLOCK], line)
        prefix = f"{moment} {message.name or '':<{self.width}} | "
        first, *others = self._wrapped(said, len(prefix))
        shown = f"\x1b[0m\x1b[{message.colour}m{prefix}\x1b[0m" if self._coloured and message.colour else prefix
        return "\n".join([f"{shown}{first}", *(f"{'':<{len(prefix)}}{one}" for one in others)])

    def _wrapped(self, line: str, taken: int) -> list[str]:
        """Wrap a line beside the names. Colours have no width, and occur only at its beginning."""
        width = self._columns() - taken
        hidden = sum(map(len, _COLOURS.findall(line)))
        if width < _LEAST_WIDTH or len(line) - hidden <= width:
            return [line]
        first = next(iter(_words(line, width + hidden)), "")
        return [first, *_words(line[len(first) :].lstrip(), width)]

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._output.fileno()).columns
        except (OSError, ValueError):  # it is no terminal
            return 0


class JsonPrinter(_Printer):
    """Passes a line on that is JSON; any other becomes a message."""

    def _shown(self, message: Message, line: str) -> str:
        if _is_document(line):
            return line
        failed = message.colour == ALARM_COLOUR or line.startswith(_FAILED)
        level = "ERROR" if failed else "INFO"
        own = {"action": "up"} if message.name == OWN_NAME else {}
        said_at = isoformat(message.time.timestamp())
        return json.dumps({"time": said_at, "level": level, "role": message.name, "message": line, **own})


def _words(text: str, width: int) -> list[str]:
    return wrap(text, width, expand_tabs=False, break_long_words=False, break_on_hyphens=False)


def _is_document(line: str) -> bool:
    try:
        return line.isascii() and isinstance(json.loads(line), dict)
    except ValueError:
        return False
