"""Words for people: texts from outside made safe to show, numbers with their nouns, ages. Pure."""

from __future__ import annotations

from typing import Any
from unicodedata import category

#: Kinds of characters (Unicode's categories) that a terminal could take for commands, or that hide or turn around what
#: stands beside them: controls, formats (bidirectional marks, zero-width ones, tags), separators of lines, surrogates.
_UNSAFE = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})
_TEEN = range(11, 14)
_SUFFIXES = {1: "st", 2: "nd", 3: "rd"}


def safe(text: object, keep: str = "\n\t") -> str:
    """Make text from outside safe to print: what a terminal could take for commands becomes visible, as JSON has it."""
    told = str(text)
    if told.isprintable():
        return told
    return "".join(_visible(one) if category(one) in _UNSAFE and one not in keep else one for one in told)


def safe_line(text: object) -> str:
    """Make text from outside safe to print on a line with other text: its line breaks become visible as well."""
    return safe(text, keep="")


def harmless(document: Any) -> Any:
    """Return a document of JSON with every text in it as `safe_line` has it, to be drawn whoever wrote it."""
    if isinstance(document, dict):
        return {safe_line(name): harmless(value) for name, value in document.items()}
    if isinstance(document, list):
        return [harmless(value) for value in document]
    return safe_line(document) if isinstance(document, str) else document


def _visible(character: str) -> str:
    """Write a character as JSON escapes it, so that what is printed as JSON still says the same."""
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def ordinal(number: int) -> str:
    """Write a number as a place in an order: `1st`, `12th`, `1,203rd`."""
    suffix = "th" if number % 100 in _TEEN else _SUFFIXES.get(number % 10, "th")
    return f"{number:,}{suffix}"


def counted(number: int, noun: str) -> str:
    """Write a number with its noun: `1 event`, `1,785 events`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def age(seconds: float | None) -> str:
    """Write how long ago something was, in its largest unit; a dash where that is not known."""
    if seconds is None:
        return "-"
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def one_line(text: object, width: int) -> str:
    """Put a text into one line of at most `width` characters, for a table."""
    line = " ".join(str(text).split())
    return line if len(line) <= width else f"{line[: width - 3]}..."
