"""What a table of the configuration may hold: a Struct each, whose fields are annotated with rules and meaning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Annotated, Any, get_args, get_origin

import msgspec
from msgspec.structs import asdict, fields

from rlm.settings.toml import Place, dotted

#: What is wrong at a place, in words that fit behind key and value. They never quote a value.
Problem = tuple[Place, str]
#: Returns a value as RLM uses it, or raises a ValueError that says what it must be.
Check = Callable[[Any], Any]

#: What is wrong with a key that a table may not have.
UNKNOWN_KEY = "unknown key"
#: Not in the representation of a section, because they may hold secrets.
_SECRET = frozenset({"url", "token", "headers"})


def described(meaning: str, allowed: str, *, check: Check | None = None, unset: str = "", **rules: Any) -> msgspec.Meta:
    """Describe a setting: its meaning, what is `allowed` in words, `rules` as msgspec checks them, and a further check.

    `unset` says what a missing value means, where the default does not.
    """
    extra = {"allowed": allowed, "check": check, "unset": unset}
    return msgspec.Meta(description=meaning, extra=extra, **rules)


def seconds(meaning: str, *, from_zero: bool = False, unset: str = "") -> msgspec.Meta:
    """Describe a duration. The maximum, 1e9 (31 years), is within the range of dates and of Lua's numbers."""
    if from_zero:
        return described(meaning, "a number of seconds from 0 to 1e9", unset=unset, ge=0, le=1e9)
    return described(meaning, "a number of seconds above 0, at most 1e9", unset=unset, gt=0, le=1e9)


def whole(meaning: str, lowest: int, highest: int = 10**9) -> msgspec.Meta:
    """Describe a whole number."""
    return described(meaning, f"a whole number from {lowest} to {highest}", ge=lowest, le=highest)


class Section(msgspec.Struct, frozen=True):
    """A table with known keys."""

    def __repr__(self) -> str:
        """Return its settings without those that may be secret."""
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Return the same for rich, because msgspec's own has every field."""
        return [(key, value) for key, value in asdict(self).items() if key not in _SECRET]


class Setting(msgspec.Struct, frozen=True):
    """One setting of a section. `kind` is its annotated type, without None; `default` is NODEFAULT if there is none."""

    kind: Any
    default: Any
    meaning: str
    allowed: str
    check: Check | None
    unset: str

    @property
    def is_required(self) -> bool:
        """Whether it has no default."""
        return self.default is msgspec.NODEFAULT

    @property
    def plain(self) -> Any:
        """Its type without the annotations."""
        return get_args(self.kind)[0]

    @property
    def section(self) -> type[Section] | None:
        """The section of the table that it is, or of the tables in its list or table; None for a single value."""
        inner = [self.plain, *get_args(self.plain)]
        return next((kind for kind in inner if isinstance(kind, type) and issubclass(kind, Section)), None)


@lru_cache
def settings_of(section: type[Section]) -> Mapping[str, Setting]:
    """Return the settings of a section by key, in their order."""
    found = {}
    for field in fields(section):
        annotated = next(kind for kind in (field.type, *get_args(field.type)) if get_origin(kind) is Annotated)
        meta = get_args(annotated)[1]
        is_made = field.default_factory is not msgspec.NODEFAULT
        default = field.default_factory() if is_made else field.default
        found[field.name] = Setting(annotated, default, meta.description, **meta.extra)
    return found


def defaults_of(section: type[Section]) -> dict[str, Any]:
    """Return the default of each setting of a section that has one."""
    return {key: setting.default for key, setting in settings_of(section).items() if not setting.is_required}


def read_table(section: type[Section], table: Any, place: Place, problems: list[Problem]) -> Any:
    """Return the section that a table is, or add all that is wrong with it to `problems`."""
    if not isinstance(table, dict):
        form = '{ name = "...", url = "..." }' if isinstance(place[-1], int) else f"a table, [{dotted(place)}]"
        problems.append((place, f"must be {form}"))
        return None
    before, values, known = len(problems), {}, settings_of(section)
    for key, setting in known.items():
        if table.get(key) is not None:
            values[key] = _read(setting, table[key], (*place, key), problems)
        elif setting.is_required:
            problems.append(((*place, key), f"is missing; give {setting.allowed}"))
    problems += [((*place, key), UNKNOWN_KEY) for key in table if key not in known]
    return section(**values) if len(problems) == before else None


def _read(setting: Setting, value: Any, place: Place, problems: list[Problem]) -> Any:
    section, shape = setting.section, get_origin(setting.plain)
    try:
        if section is None:
            value = msgspec.convert(value, setting.kind)
        elif shape is None:
            return read_table(section, value, place, problems)
        elif shape is tuple:
            entries = enumerate(msgspec.convert(value, list[Any]))
            value = tuple(read_table(section, entry, (*place, number), problems) for number, entry in entries)
        else:
            tables = msgspec.convert(value, dict[str, Any])
            value = {name: read_table(section, table, (*place, name), problems) for name, table in tables.items()}
        return setting.check(value) if setting.check else value
    except msgspec.ValidationError:
        problems.append((place, f"must be {setting.allowed}"))
    except ValueError as error:
        problems.append((place, str(error)))
    return None


def as_tables(value: Any) -> Any:
    """Return sections as tables, also those within tables and lists; settings without a value are left out."""
    if isinstance(value, Section):
        return {key: as_tables(item) for key, item in asdict(value).items() if item is not None}
    if isinstance(value, Mapping):
        return {key: as_tables(item) for key, item in value.items()}
    return [as_tables(item) for item in value] if isinstance(value, list | tuple) else value
