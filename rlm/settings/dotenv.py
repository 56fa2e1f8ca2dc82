"""Reads a .env file as a shell does that runs `. ./.env`, so that `rlm up` and the commands beside it see the same.

Only what is a plain assignment there is taken. Anything else is an error and is not passed over: a URL of Redis that
was left out would make the processes start an embedded server and look at that one.
"""

from __future__ import annotations

import re
import shlex

_LINE = re.compile(r"(?:export\s+)?(?P<name>[A-Za-z_]\w*)\s*=\s*(?P<value>.*)", re.ASCII)


def parse_dotenv(text: str) -> dict[str, str]:
    """Return the variables that the lines of `text` set.

    Raises:
        ValueError: a line sets none, or not as a shell would. It names the line and the variable, and no value.
    """
    found = {}
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if line and not line.startswith("#"):
            match = _LINE.fullmatch(line)
            if not match:
                raise ValueError(f"line {number} is not NAME=value")
            found[match["name"]] = _value(f"line {number}: {match['name']}", match["value"])
    return found


def _value(where: str, text: str) -> str:
    """Return what stands behind the sign of equality, without its quotes and a comment behind it."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{where}: {str(error).lower()}") from None
    words = words[: next((at for at, word in enumerate(words) if word.startswith("#")), None)]
    if len(words) > 1:
        raise ValueError(f"{where}: put a value with blanks in quotes")
    return "".join(words)
