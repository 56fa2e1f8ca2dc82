"""What is wrong with a configuration, all of it at once: a line each with origin, key, value and what is allowed."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlm.core.text import cut, safe_line
from rlm.settings.document import SECTIONS, model_at
from rlm.settings.fields import words
from rlm.settings.masking import MASK, is_number, is_secret, mask_value
from rlm.settings.toml import dotted, toml_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from rlm.settings.layers import Layers, Place

_LONGEST_VALUE = 200
#: A longer key is cut where it is shown, and is not compared with those there are.
_LONGEST_KEY = 200
#: Faults that are told one by one.
_MOST_FAULTS = 100
#: What pydantic puts behind the place of a table's entry when it means the key.
_KEY_MARK = "[key]"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong. `subject` is the key, with its value where there is one; secrets are masked in it."""

    place: Place
    origin: str
    subject: str
    problem: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.subject}: {self.problem}"


def listed(faults: Sequence[Fault]) -> str:
    """Write faults, a line each; of very many the first."""
    lines = [str(one) for one in faults[:_MOST_FAULTS]]
    if more := len(faults) - len(lines):
        lines.append(f"{faults[-1].origin}: and {more:,} more")
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Sound:
    """A configuration without the values at `faulty` places: what rules between settings can be asked about."""

    layers: Layers
    faulty: frozenset[Place]

    def find(self, place: Place) -> Any:
        """Return the value at `place`, None where there is none or it is faulty already."""
        spoiled = any(place[:length] in self.faulty for length in range(len(place) + 1))
        return None if spoiled else self.layers.find(place)

    def fault(self, place: Place, problem: str) -> Fault:
        """Make the fault of the value at `place`."""
        return fault(self.layers, place, problem, self.layers.find(place))


def fault(layers: Layers, place: Place, problem: str, value: Any = None) -> Fault:
    """Make the fault of the setting at `place`; without `value` its key is named alone."""
    subject = key_of(place) if value is None else f"{key_of(place)} = {show(place, value)}"
    return Fault(place, layers.blame(place), subject, problem)


def show(place: Place, value: Any) -> str:
    """Write a value as the file has it: secrets masked, long texts cut, tables and lists folded.

    A value whose key is none, or that stands where a table belongs, may be anything, hence a secret; unless it is a
    small number or a truth value.
    """
    if isinstance(value, dict | list) and value:
        return "{...}" if isinstance(value, dict) else "[...]"
    masked = mask_value(place, value) if _is_setting(place) or value in ({}, []) or _is_harmless(place, value) else MASK
    return cut(safe_line(toml_value(masked)), _LONGEST_VALUE)


def _is_harmless(place: Place, value: Any) -> bool:
    return is_number(value) and not is_secret(str(place[-1]))


def _is_setting(place: Place) -> bool:
    """Return whether a single value belongs at `place`, which is not that of a table or a list of them."""
    if "headers" in place[2:-1]:
        return True
    model = model_at(place[:-1]) if len(place) > 1 else None
    return model is not None and place[-1] in model.model_fields and place[-1] != "endpoints"


def key_of(place: Place) -> str:
    """Write the key of a place as messages have it: a name in it may be anything, and of any length."""
    return cut(safe_line(dotted(place)), _LONGEST_VALUE)


def faults_of(error: ValidationError, layers: Layers) -> Iterator[Fault]:
    """Translate what pydantic found."""
    for number, detail in enumerate(error.errors(include_url=False)):
        place = detail["loc"]
        if number >= _MOST_FAULTS:
            yield Fault(place, layers.file_name, "", "")  # it is counted, and not told
        elif place[-1] == _KEY_MARK:
            yield fault(layers, place[:-1], _problem(place[:-1], detail))
        elif detail["type"] == "missing":
            yield fault(layers, place, f"is missing; give {_allowed(place)}")
        else:
            yield fault(layers, place, _problem(place, detail), detail["input"])


def _problem(place: Place, detail: ErrorDetails) -> str:
    match detail["type"]:
        case "extra_forbidden":
            return _unknown(place)
        case "value_error":
            return str(detail["ctx"]["error"])
        case _:
            return f"must be {_allowed(place)}"


def _allowed(place: Place) -> str:
    """Find the words for what may stand at `place`: its own, else those for an entry of the list or table it is in."""
    *parent, key = place
    model = model_at(tuple(parent))
    if model and key in model.model_fields:
        return words(model, str(key), "allowed")
    match parent:
        case ["types" | "budgets"]:
            return f"a table, [{key_of(place)}]"
        case [*_, "endpoints"]:
            return '{ name = "...", url = "..." }'
        case _:
            return "a text"


def _unknown(place: Place) -> str:
    *parent, last = place
    key = str(last)
    model = model_at(tuple(parent))
    known = list(model.model_fields) if model else []
    near = close_match(key, known) or next(
        (f"{name}.{key}" for name, other in SECTIONS.items() if key in other.model_fields), None
    )
    return f"unknown key{did_you_mean(near)}; {_table(parent)} may have {', '.join(known)}"


def _table(place: list[str | int]) -> str:
    match place:
        case []:
            return "the file"
        case [*_, int()]:
            return "an endpoint"
        case _:
            return f"[{key_of(tuple(place))}]"


def close_match(name: str, known: Iterable[str], cutoff: float = 0.5) -> str | None:
    """Return the known name that `name` was probably meant to be, upper and lower case aside."""
    if len(name) > _LONGEST_KEY:
        return None
    folded = {candidate.lower(): candidate for candidate in known}
    return next((folded[near] for near in difflib.get_close_matches(name.lower(), folded, n=1, cutoff=cutoff)), None)


def did_you_mean(name: str | None) -> str:
    """Offer a name, if there is one to offer."""
    return f" (did you mean {name!r}?)" if name else ""
