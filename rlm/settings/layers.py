"""The layers of the configuration, options over environment over file over defaults, and what is wrong with them.

The layers are merged as a tree of TOML. A `Document` is made from it setting by setting, so all faults are found at
once.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar, get_args, get_origin

import msgspec

from rlm.core.errors import ConfigurationError, UnsafeError
from rlm.core.files import user_name
from rlm.core.text import LOG_FORMATS, cut, is_name, safe_line
from rlm.settings.model import NAMES, PORT, Document, Setting, settings_of
from rlm.settings.secrets import FROM_ENVIRONMENT, MASK, mask_url

#: A tree of TOML as `tomllib` reads it. It is untyped until a `Document` is made of it.
Tables: TypeAlias = dict[str, Any]
#: The place of a setting: names of tables and keys, indexes of list entries.
Place: TypeAlias = tuple[str | int, ...]
#: The files that `rlm init` writes; their types are the built-in ones.
FIRST = Path(__file__).parent / "first"
#: The largest configuration file that is read, bytes.
LARGEST_FILE = 1_000_000
#: The variables that are no settings, by name: their form, and in words.
VARIABLES = {
    "RLM_LOG": ("(DEBUG|INFO|WARNING|ERROR|CRITICAL)?", "DEBUG, INFO, WARNING, ERROR or CRITICAL"),
    "RLM_LOG_FORMAT": (f"({'|'.join(LOG_FORMATS)})?", " or ".join(LOG_FORMATS)),
    "SENTRY_DSN": (rf"(https?://\w[\w:-]*@[\w.-]+(:{PORT})?/(\S+/)?\d+)?", "https://KEY@HOST/PROJECT, as in Sentry"),
}
T = TypeVar("T", bound=msgspec.Struct)


def written(value: Any) -> str:
    """Return a single value or a list as in TOML, on one line; a table as in JSON."""
    return json.dumps(value, ensure_ascii=False, default=str)


def dotted(place: Place) -> str:
    """Return the place of a setting as a key: `run.target`, `types.X.endpoints[1].url`."""
    names = (
        part if isinstance(part, int) or re.fullmatch(r"[A-Za-z0-9_-]+", part) else written(part) for part in place
    )
    return "".join(f"[{name}]" if isinstance(name, int) else f".{name}" for name in names).removeprefix(".")


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """Return a suffix with the known name closest to `name`, ignoring case; empty if none is close."""
    if len(name) > 100:  # noqa: PLR2004  # longer than any name
        return ""
    import difflib  # noqa: PLC0415  # needed only after a typing error

    folded = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=cutoff)
    return f" (did you mean {folded[near[0]]!r}?)" if near else ""


def built_in_types() -> Tables:
    """Return the tables of the built-in types."""
    return Tables(tomllib.loads((FIRST / "rlm.toml").read_text())["types"])


class Layers:
    """The layers of a configuration, the origin of each value that is no default, and what is wrong."""

    def __init__(self, file: Tables, source: Path | None, environ: Mapping[str, str], options: Iterable[str]) -> None:
        self.source, self.faults = source, list[str]()
        self._tables = file if "types" in file else {**file, "types": built_in_types()}
        self._origins = {place: f"file {source}" for place, value in leaves(file) if value != {}}
        self._environ = environ
        #: What no setting has taken yet: options by key, variables by their names in upper case.
        self._options = {key: value for key, _, value in (option.partition("=") for option in options)}
        self._variables = {name.upper(): name for name in environ if re.match("RLM_.*__", name, re.IGNORECASE)}
        self._keys, self._names = list[str](), list[str]()

    def read(self) -> Document:
        """Return the document that the layers make, and note what is wrong; that is left out of it."""
        document = self._section(Document, self._tables, ()) or Document()
        for name in self._variables.values():
            near = did_you_mean(name, self._names, cutoff=0.8)
            self.faults.append(f"environment {safe_line(name)}: no such setting{near}; it is RLM_<SECTION>__<KEY>")
        for name, (pattern, allowed) in VARIABLES.items():
            if not re.fullmatch(pattern, value := self._environ.get(name, ""), re.IGNORECASE):
                shown = safe_line(written(MASK if name == "SENTRY_DSN" else value))
                self.faults.append(f"environment {name} = {shown}: must be {allowed}")
        for key in self._options:
            near = did_you_mean(key, self._keys)
            self.faults.append(f"--set: {safe_line(key)}: no such setting{near}; write for example run.target=0.5")
        return document

    def where(self, place: Place) -> str:
        """Return the origin of the value at `place`; an entry has the origin of its list."""
        upwards = (place[:length] for length in range(len(place), 0, -1))
        return next((self._origins[each] for each in upwards if each in self._origins), "default")

    def _given(self, place: Place, setting: Setting, value: Any) -> Any:
        """Return the value of a single setting: of an option, else of a variable, else the `value` of the file.

        Keys of options are written as in messages: `types.X.endpoints[1].rate_limit`.
        """
        key = dotted(place)
        given = [("--set", self._options.pop(key, None))]
        self._keys.append(key)
        if "endpoints" not in place:
            # Characters that a variable's name cannot have become `_`.
            variable = "RLM_" + "__".join(re.sub(r"[^A-Z0-9_]", "_", str(part).upper()) for part in place)
            self._names.append(variable)
            name = self._variables.pop(variable, variable)
            given.append((f"environment {name}", self._environ.get(name)))
        if key == "redis.url":
            given.append(("environment REDIS_URL", self._environ.get("REDIS_URL") or None))
        for origin, text in given:
            if text is not None:
                self._origins[place] = origin
                return _converted(text, setting.plain)
        return value

    def _section(self, section: type[T], table: Any, place: Place) -> T | None:
        settings, values, is_right, number = settings_of(section), Tables(), True, len(self.faults)
        if not isinstance(table, dict):
            self._section(section, {}, place)  # its options and variables are taken
            self.faults[number:] = []
            self.refuse(place, f"must be a table of {', '.join(settings)}", table if isinstance(table, int) else None)
            return None
        for key in [key for key in table if key not in settings]:
            near = did_you_mean(key, settings)
            self.refuse((*place, key), f"unknown key{near}; allowed here are {', '.join(settings)}")
        single = dict.fromkeys(settings)  # the values that may be shown: those of tables may be secret
        for key, setting in settings.items():
            at, value = (*place, key), table.get(key)
            if setting.section is None:
                value = self._given(at, setting, value)
                single[key] = setting.default if value is None else value
            try:
                values |= {key: self._value(setting, value, at)}
            except ValueError as error:
                is_right, by_rule = False, isinstance(error, msgspec.ValidationError)
                self.refuse(at, f"must be {setting.allowed}" if by_rule else str(error), single[key])
        try:
            return section(**{key: value for key, value in values.items() if value is not None}) if is_right else None
        except ValueError as error:  # its first word is the key
            key, _, problem = str(error).partition(" ")
            self.refuse((*place, key), problem, single[key])
            return None

    def _value(self, setting: Setting, value: Any, place: Place) -> Any:
        """Return the value of a setting, its tables without those that are wrong."""
        section = setting.section
        if section is setting.plain and (value, setting.default) != (None, None):
            return self._section(section, {} if value is None else value, place)
        if value is None:
            if setting.default is msgspec.NODEFAULT:
                raise ValueError(f"is missing; give {setting.allowed}")
            return None
        if section is None:
            value = msgspec.convert(value, setting.kind)
            if setting.check:
                setting.check(value, self._environ)
            return value
        shape: Any = list[Any] if place[-1] == "endpoints" else Tables
        entries = msgspec.convert(value, Annotated[shape, *get_args(setting.kind)[1:]])
        right = {key: self._section(section, entry, (*place, key)) for key, entry in _entries(entries)}
        for name in right:
            if isinstance(name, str) and not is_name(name):
                self.refuse((*place, name), f"a name has {NAMES}")
        right = {key: entry for key, entry in right.items() if entry}
        return tuple(right.values()) if isinstance(entries, list) else right

    def refuse(self, place: Place, problem: str, value: Any = None) -> None:
        """Note what is wrong at a place: where its value comes from, its key, the value, and what is allowed."""
        origin = self.where(place)
        if origin == "default" and self.source and not isinstance(value, int | float):  # it is missing in the file
            origin = f"file {self.source}"
        subject = cut(safe_line(dotted(place)), 200)
        if value not in (None, msgspec.NODEFAULT):
            subject += f" = {cut(safe_line(written(masked(place, value))), 200)}"
        self.faults.append(f"{origin}: {subject}: {problem}")


def layers_of(
    path: Path | None, environ: Mapping[str, str], options: Iterable[str], *, lenient: bool = False
) -> Layers:
    """Return the layers with the file at `path`, else `$RLM_CONFIG`, else `./rlm.toml` if it exists, else none.

    If `lenient`, the tables before the one that is no TOML are read, if they or the environment name the Redis.

    Raises:
        UnsafeError: another user could change the file, or it is not a regular file.
        ConfigurationError: it does not exist, cannot be read, or is not TOML in UTF-8.
    """
    named = path or environ.get("RLM_CONFIG")
    path = Path(named or "rlm.toml").absolute()
    if not named and not os.path.lexists(path):
        return Layers({}, None, environ, options)
    content = ""
    try:
        content = read_trusted(path).decode("utf-8-sig")
        return Layers(tomllib.loads(content), path, environ, options)
    except (ValueError, RecursionError) as error:
        line = re.search(r"at line (\d+)", str(error))
        before = "\n".join(content.split("\n")[: int(line[1]) if line else None]).rpartition("\n[")[0]
        with suppress(ValueError, RecursionError):
            if lenient and ("redis" in (tables := tomllib.loads(before)) or environ.get("REDIS_URL")):
                return Layers(tables, path, environ, options)
        raise ConfigurationError(f"file {path}: is not valid TOML in UTF-8: {error}") from None
    except OSError as error:
        raise ConfigurationError(f"file {path}: cannot be read: {error.strerror}") from error


def read_trusted(path: Path) -> bytes:
    """Return the content of a regular file of at most `LARGEST_FILE` bytes that no other user can change.

    Raises:
        UnsafeError: another user can change it, or it is not such a file: reading a pipe or a device may block.
        OSError: it cannot be read.
    """
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode) or facts.st_size > LARGEST_FILE:
        what = f"file {path}: cannot be read: it is no regular file of at most {LARGEST_FILE:,} bytes"
        raise UnsafeError(what, "name another file")
    if facts.st_uid not in {0, os.geteuid()}:
        owner = user_name(facts.st_uid)
        what = f"file {path}: it belongs to {owner}, who can change what RLM does"
        raise UnsafeError(what, f"run RLM as {owner}, or, if its content is yours, chown it")
    if facts.st_mode & stat.S_IWOTH:
        raise UnsafeError(f"file {path}: others can change it", f"chmod o-w {shlex.quote(str(path))}")
    return path.read_bytes()


def masked(place: Place, value: Any) -> Any:
    """Return what may be shown of the setting at `place`: of a header or token `env:NAME`, but no literal value."""
    if place[-1] != "url" and "headers" not in place[2:] and place != ("web", "token"):
        return value
    if not isinstance(value, str):
        return value and MASK
    if place[-1] == "url":
        return mask_url(value)
    return value if value.startswith(FROM_ENVIRONMENT) else value and MASK


def leaves(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Yield each single value (or empty list or table) of nested tables and lists, with its place."""
    entries = _entries(value)
    for key, item in entries:
        yield from leaves(item, (*place, key))
    if not entries and value is not None:
        yield place, value


def _entries(value: Any) -> Sequence[tuple[str | int, Any]]:
    if isinstance(value, dict):
        return [*value.items()]
    return [*enumerate(value)] if isinstance(value, list | tuple) else []


def _converted(text: str, plain: Any) -> Any:
    """Return `text` converted to a setting's type if possible; `read` reports text that cannot be converted."""
    if get_origin(plain) is list:
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return msgspec.convert(text, plain, strict=False)
    except msgspec.ValidationError:
        return text
