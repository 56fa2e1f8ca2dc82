"""The filter of a list as the address of its page has it: read, checked, and written again. Pure."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from rlm.core.text import DURATIONS, seconds_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from rlm.web.pages.page import Query

#: A filter that goes further back is a slip, seconds: a hundred years.
_LONGEST_SECONDS = 100 * 366 * 86_400
#: The most characters of a text that is searched for.
_LONGEST_TEXT = 320


@dataclass
class ListFilter:
    """What a list is asked for. Each method reads one part; `faults` says what of it cannot be understood.

    A list with faults shows nothing: a filter that is half understood would show, or drop, what nobody meant.
    `given` is what was read, so that a form, an address or a command can say the same again.
    """

    path: str
    question: Query
    faults: list[str] = field(default_factory=list)
    given: dict[str, list[str]] = field(default_factory=dict)

    def choices(self, name: str, allowed: Collection[str]) -> frozenset[str]:
        """Return the values given for `name`, each one of those `allowed`."""
        found = list(dict.fromkeys(filter(None, self.question.all(name))))
        for one in found:
            if one not in allowed:
                self.faults.append(f"{name} {one!r} is none of {', '.join(allowed)}")
        return frozenset(self._note(name, found))

    def text(self, name: str) -> str:
        """Return the text given for `name`."""
        found = self.question.get(name).strip()
        if len(found) > _LONGEST_TEXT:
            self.faults.append(f"{name} has {len(found):,} characters; at most {_LONGEST_TEXT} can be searched for")
        return "".join(self._note(name, [found] if found else []))

    def ago(self, name: str) -> float | None:
        """Return the duration given for `name` in seconds, None without one."""
        text = self.text(name)
        seconds = seconds_of(text) if text else 0.0
        if text and not 0 < seconds <= _LONGEST_SECONDS:
            self.faults.append(f"{name} {text!r} is no length of time; write for example {DURATIONS}")
        return seconds or None

    def number(self, name: str) -> int:
        """Return the whole number given for `name`, 0 without one. It says where a list goes on, not what is in it."""
        text = self.question.get(name)
        if text and not (text.isascii() and text.isdigit() and len(text) <= 9):  # noqa: PLR2004  # more than any list has
            self.faults.append(f"{name} {text!r} is no place in this list")
            return 0
        return int(text or 0)

    def _note(self, name: str, found: list[str]) -> list[str]:
        if found:
            self.given[name] = found
        return found

    def one(self, name: str) -> str:
        """Return what a field of the form shows for `name`."""
        return self.given.get(name, [""])[0]

    def address(self, **more: object) -> str:
        """Return the address of the same list, with `more` in its query."""
        return address(self.path, {**self.given, **{name: [str(one)] for name, one in more.items() if one}})

    def options(self, **more: str) -> str:
        """Return the filter, and `more`, as options of a command, each behind a space."""
        told = [(name, one) for name, found in self.given.items() for one in found]
        return "".join(f" --{name} {shlex.quote(one)}" for name, one in [*told, *more.items()] if one)


def address(path: str, query: Mapping[str, Collection[str]]) -> str:
    """Return the address of a page with a query."""
    told = urlencode([(name, one) for name, found in query.items() for one in found])
    return f"{path}?{told}" if told else path


def event_address(event_id: str) -> str:
    """Return the address of the page that explains an event, whatever its id holds."""
    return f"/events/{quote(event_id, safe=':')}"


def run_address(run_id: str) -> str:
    """Return the address of the page of a run."""
    return f"/runs/{quote(run_id, safe='')}"
