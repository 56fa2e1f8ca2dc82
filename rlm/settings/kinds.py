"""What a setting may hold: texts, numbers, tables with known keys. Reading a value finds all that is wrong in it."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Protocol, Self

import msgspec
from msgspec.structs import asdict

#: The place of a setting: names of tables and keys, indexes of list entries.
Place = tuple[str | int, ...]
#: Returns a value as RLM uses it, or raises a ValueError that says what it must be.
Check = Callable[[Any], Any]
#: The default of a setting that must be given.
REQUIRED = ...


class Why(StrEnum):
    """What is wrong at a place."""

    MISSING = "missing"
    UNKNOWN = "unknown"
    NOT_ALLOWED = "not allowed"


class Flaw(msgspec.Struct, frozen=True):
    """What is wrong at a place, with the value or with its key alone (`of_key`); `told` are the words of a check."""

    place: Place
    why: Why = Why.NOT_ALLOWED
    told: str = ""
    of_key: bool = False


class Kind(Protocol):
    """A kind of value."""

    def read(self, value: Any, place: Place, flaws: list[Flaw]) -> Any:
        """Return `value` as RLM uses it, or add what is wrong with it to `flaws` and return None."""


class Text(msgspec.Struct, frozen=True):
    """A text that matches a pattern as a whole, and passes a check."""

    check: Check | None = None
    pattern: re.Pattern[str] | None = None

    def read(self, value: Any, place: Place, flaws: list[Flaw]) -> Any:
        """Read it as `Kind` says."""
        if not isinstance(value, str) or (self.pattern and not self.pattern.fullmatch(value)):
            return flaws.append(Flaw(place))
        return _checked(self.check, value, place, flaws)


class Quantity(msgspec.Struct, frozen=True):
    """A number from `least`, or `above` it, to `most`. A whole one is accepted for any; a boolean is no number."""

    of: type[int | float]
    most: float
    least: float = 0
    above: bool = False

    def read(self, value: Any, place: Place, flaws: list[Flaw]) -> Any:
        """Read it as `Kind` says; NaN is within no bounds."""
        if type(value) not in {int, self.of} or not self.least <= value <= self.most:
            return flaws.append(Flaw(place))
        return flaws.append(Flaw(place)) if self.above and value == self.least else self.of(value)


class Switch(msgspec.Struct, frozen=True):
    """True or false."""

    def read(self, value: Any, place: Place, flaws: list[Flaw]) -> Any:
        """Read it as `Kind` says."""
        return value if isinstance(value, bool) else flaws.append(Flaw(place))


class Items(msgspec.Struct, frozen=True):
    """A list of one kind of value, made `into` a list or tuple."""

    of: Kind
    into: type[list[Any] | tuple[Any, ...]] = list
    check: Check | None = None

    def read(self, value: Any, place: Place, flaws: list[Flaw]) -> Any:
        """Read it as `Kind` says."""
        if not isinstance(value, list | tuple):
            return flaws.append(Flaw(place))
        before = len(flaws)
        items = [self.of.read(item, (*place, number), flaws) for number, item in enumerate(value)]
        return _checked(self.check, self.into(items), place, flaws) if len(flaws) == before else None


class Named(msgspec.Struct, frozen=True):
    """A table whose keys are names of the user's choice, for one kind of value."""

    of: Kind
    key: Text = Text()
    check: Check | None = None
    may_be_empty: bool = True

    def read(self, value: Any, place: Place, flaws: list[Flaw]) -> Any:
        """Read it as `Kind` says."""
        if not isinstance(value, dict) or not (value or self.may_be_empty):
            return flaws.append(Flaw(place))
        before, of_keys = len(flaws), list[Flaw]()
        found = {}
        for name, item in value.items():
            self.key.read(name, (*place, name), of_keys)
            flaws += [msgspec.structs.replace(one, of_key=True) for one in of_keys]
            of_keys.clear()
            found[name] = self.of.read(item, (*place, name), flaws)
        return _checked(self.check, found, place, flaws) if len(flaws) == before else None


class Setting(msgspec.Struct, frozen=True):
    """One setting of a section: `allowed` gives the rules in words, `unset` what a missing value means.

    If it is not `shown`, the representation of its section leaves it out.
    """

    default: Any
    meaning: str
    kind: Kind
    allowed: str = ""
    unset: str = ""
    shown: bool = True

    @property
    def is_required(self) -> bool:
        """Whether it has no default."""
        return self.default is REQUIRED

    def read(self, value: Any, place: Place, flaws: list[Flaw]) -> Any:
        """Read it as `Kind` says; None is allowed if it is the default."""
        return None if value is None and self.default is None else self.kind.read(value, place, flaws)


class Section(msgspec.Struct, frozen=True):
    """The base of all tables with known keys. In a class, the default of each field is its `Setting`; `read` fills it.

    Only `read`, or a copy of what it returned, makes an instance; a TypeError is raised if a field was not given.
    """

    def __post_init__(self) -> None:
        """Refuse a description in place of a value."""
        if missing := [key for key, value in asdict(self).items() if isinstance(value, Setting)]:
            raise TypeError(f"{type(self).__name__} needs {', '.join(missing)}; Section.read fills in the defaults")

    @classmethod
    def settings(cls) -> dict[str, Setting]:
        """Return the settings by key, in their order."""
        return dict(zip(cls.__struct_fields__, cls.__struct_defaults__, strict=True))

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Return the default of each setting that has one."""
        return {key: copy.copy(one.default) for key, one in cls.settings().items() if not one.is_required}

    @classmethod
    def read(cls, value: Any, place: Place, flaws: list[Flaw]) -> Self | None:
        """Return the section of a table, or add all that is wrong with it to `flaws` and return None."""
        if not isinstance(value, dict):
            flaws.append(Flaw(place))
            return None
        known, before, values = cls.settings(), len(flaws), cls.defaults()
        for key, one in known.items():
            if key in value:
                values[key] = one.read(value[key], (*place, key), flaws)
            elif one.is_required:
                flaws.append(Flaw((*place, key), Why.MISSING))
        flaws += [Flaw((*place, key), Why.UNKNOWN) for key in value if key not in known]
        return cls(**values) if len(flaws) == before else None

    def __repr__(self) -> str:
        """Return its settings without those that may be secret."""
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Return the same for rich, because msgspec's own has every field."""
        described = self.settings()
        return [(key, value) for key, value in asdict(self).items() if described[key].shown]


def as_tables(value: Any) -> Any:
    """Return sections as tables, also those within tables and lists; settings without a value are left out."""
    if isinstance(value, Section):
        return {key: as_tables(item) for key, item in asdict(value).items() if item is not None}
    if isinstance(value, Mapping):
        return {key: as_tables(item) for key, item in value.items()}
    return [as_tables(item) for item in value] if isinstance(value, list | tuple) else value


def _checked(check: Check | None, value: Any, place: Place, flaws: list[Flaw]) -> Any:
    try:
        return check(value) if check else value
    except ValueError as error:
        flaws.append(Flaw(place, told=str(error)))
        return None
