"""The layers over the defaults: the file, the environment and options (`--set`); also the reader of .env files."""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rlm.core.errors import ConfigurationError
from rlm.core.files import read_trusted
from rlm.core.text import is_plain
from rlm.settings.document import OPTION, Layers, fields_at, layered
from rlm.settings.faults import Fault, did_you_mean, key_of, show
from rlm.settings.kinds import Items, Named, Place, Quantity, Switch
from rlm.settings.toml import KeyLines, dotted

FILE_NAME = "rlm.toml"
FILE_VARIABLE = "RLM_CONFIG"
_PREFIX = "RLM_"
_SEPARATOR = "__"

_EXAMPLE = "run.target=0.5 or types.REBALANCE_NEEDED.rate_limit=60/minute"

_TOML_POSITION = re.compile(r" \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$")
#: The parser's message for a key that is written twice; it does not name the key.
_TWICE = re.compile(r"Cannot overwrite|Duplicate")
#: A line of a .env file.
_ASSIGNMENT = re.compile(r"(?:export\s+)?(?P<name>[A-Za-z_]\w*)\s*=\s*(?P<value>.*)", re.ASCII)
#: More parts than any RLM key has. The parser's time is quadratic in their number: a minute for 50,000.
_MOST_PARTS = 50
_LONG_KEY = re.compile(
    rf"""(?<![\w\\-])(?:(?:"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+'|[A-Za-z0-9_-]++)[ \t]*+\.[ \t]*+){{{_MOST_PARTS}}}"""
)


def choose_file(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the absolute path of the file to read: `path`, else `$RLM_CONFIG`, else `./rlm.toml` if it exists.

    Raises:
        ConfigurationError: a named file does not exist, or no file is named and the current directory is gone.
    """
    variable = environ.get(FILE_VARIABLE)
    if path is None and variable:
        return _existing(Path(variable), f"environment {FILE_VARIABLE}")
    if path is not None:
        return _existing(path, "--config")
    usual = current_directory() / FILE_NAME
    return usual if os.path.lexists(usual) else None


def current_directory() -> Path:
    """Return the current directory; raise a ConfigurationError if it was removed or cannot be read."""
    try:
        return Path.cwd()
    except OSError as error:
        raise ConfigurationError(
            f"the current directory cannot be used ({error.strerror}): go to another, or name a file with --config"
        ) from error


def _existing(path: Path, named_by: str) -> Path:
    if not path.exists():
        raise ConfigurationError(f"{named_by}: there is no file {str(path)!r}; name an existing file or leave it out")
    return path.absolute()


def read_file(path: Path) -> Layers:
    """Return the tables of a TOML file, over the defaults.

    Raises:
        UnsafeError: another user could change the file, or it is not a regular file.
        ConfigurationError: it cannot be read, is not UTF-8 or not TOML; the message has line and column.
    """
    try:
        text = read_trusted(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"file {path}: is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise ConfigurationError(f"file {path}: cannot be read: {error.strerror}") from error
    if found := _LONG_KEY.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise ConfigurationError(f"{path}:{line}: is not valid: a key has at most {_MOST_PARTS} parts")
    try:
        return layered(tomllib.loads(text), path, text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path}{_syntax_error(str(error), text)}") from None


def _twice(text: str) -> str:
    """Return which key is written twice and its second value, secrets masked; empty if no key is."""
    found = KeyLines(text).repeated
    if found is None:
        return ""
    place, first, second = found
    subject = key_of(place)
    with suppress(ValueError, RecursionError, KeyError):  # a multi-line value, or several keys on the line
        subject += f" = {show(place, tomllib.loads(text.splitlines()[second - 1])[str(place[-1])])}"
    return f":{second}: {subject}: is already on line {first}; keep one of the two"


def _syntax_error(message: str, text: str) -> str:
    """Return where and why the text is not TOML. The parser puts the position, if any, at the end of its message."""
    if _TWICE.match(message) and (told := _twice(text)):
        return told
    found = _TOML_POSITION.search(message)
    if not found:
        return f": is not valid TOML: {message}"
    lines = text.split("\n")
    line, column = found["line"] or len(lines), found["column"] or len(lines[-1]) + 1
    return f":{line}:{column}: is not valid TOML: {message[: found.start()]}"


def put_environment(layers: Layers, environ: Mapping[str, str]) -> list[Fault]:
    """Put `environ` into the tables, `REDIS_URL` below the others; return a fault for each variable without effect."""
    known: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for table in layers.settable():
        for place in ((*table, key) for key in fields_at(table) if key != "endpoints"):
            known[variable_name(place)].append(place)  # names that differ only in case or punctuation share one
    if environ.get("REDIS_URL"):
        layers.put(("redis", "url"), environ["REDIS_URL"], "environment REDIS_URL")
    faults = []
    for variable in sorted(environ):
        if not variable.startswith(_PREFIX) or _SEPARATOR not in variable.removeprefix(_PREFIX):
            continue
        match known.get(variable.upper(), []):
            case [place]:
                layers.put(place, _converted(environ[variable], place), f"environment {variable}")
            case candidates:
                problem = _unmatched(variable, candidates, known)
                faults.append(Fault((), "environment", f"{variable} = {show((variable,), environ[variable])}", problem))
    return faults


def variable_name(place: Iterable[str]) -> str:
    """Return the variable that overrides the setting at `place`; characters not allowed in a variable become `_`."""
    return _PREFIX + _SEPARATOR.join(re.sub(r"[^A-Z0-9_]", "_", part.upper()) for part in place)


def _converted(text: str, place: Place) -> Any:
    """Return `text` converted to the setting's type if possible; validation reports text that cannot be converted."""
    described = fields_at(place[:-1]).get(str(place[-1]))
    match described and described.kind:
        case Items(into=into) if into is list:
            return [part.strip() for part in text.split(",") if part.strip()]
        case Named():
            pairs = [part.partition("=") for part in text.split(",")]
            return {name.strip(): value.strip() for name, _, value in pairs} if all(one[1] for one in pairs) else text
        case Switch():
            return {"true": True, "false": False}.get(text, text)
        case Quantity(of=number) if is_plain(text):
            with suppress(ValueError):
                return number(text)
    return text


def _unmatched(variable: str, candidates: list[tuple[str, ...]], known: Iterable[str]) -> str:
    if candidates:
        return f"may mean {' or '.join(place[1] for place in candidates)}; set it in the file"
    if re.fullmatch(rf"{_PREFIX}TYPES{_SEPARATOR}.+{_SEPARATOR}ENDPOINTS", variable, re.IGNORECASE):
        return "tables of types are set in the file only; a variable sets a single value"
    near = did_you_mean(variable, known, cutoff=0.8)
    return f"no such setting{near}; a variable is {_PREFIX}<SECTION>{_SEPARATOR}<KEY>"


def put_options(layers: Layers, texts: Iterable[str]) -> list[Fault]:
    """Put the values of `texts` (`KEY=VALUE` each) into the tables; return a fault for each unreadable text.

    Keys are written as in messages: `types.X.endpoints[1].rate_limit`. Validation reports keys that a table lacks.
    """
    tables: dict[str, Place] = {dotted(place): place for place in (*layers.settable(), *layers.endpoints())}
    faults = []
    for text in texts:
        key, equals, value = text.partition("=")
        table, _, name = key.rpartition(".")
        if not equals:
            faults.append(Fault((), OPTION, show((OPTION,), text), f"is not KEY=VALUE, for example {_EXAMPLE}"))
            continue
        if table not in tables:
            near = did_you_mean(table, tables)
            problem = f"no such setting{near}; a key is SECTION.KEY or types.TYPE.KEY, for example {_EXAMPLE}"
        elif layers.origins.get((*tables[table], name)) == OPTION:
            problem = "is given twice; once is enough"
        else:
            place = (*tables[table], name)
            layers.put(place, _converted(value, place), OPTION)
            continue
        faults.append(Fault((), OPTION, f"{key} = {show((key,), value)}", problem))
    return faults


def parse_dotenv(text: str) -> dict[str, str]:
    """Return the variables that the lines of `text` set, as a shell that runs `. ./.env` would.

    Only plain assignments are accepted. Other lines are errors, not skipped: without the URL of Redis, the processes
    would start an embedded server and use that.

    Raises:
        ValueError: a line is not an assignment as a shell reads it. The message has line and variable, but no value.
    """
    found = {}
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if line and not line.startswith("#"):
            match = _ASSIGNMENT.fullmatch(line)
            if not match:
                raise ValueError(f"line {number} is not NAME=value")
            found[match["name"]] = _unquoted(f"line {number}: {match['name']}", match["value"])
    return found


def _unquoted(where: str, text: str) -> str:
    """Return the text after the equals sign, without its quotes and without a comment."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{where}: {str(error).lower()}") from None
    words = words[: next((at for at, word in enumerate(words) if word.startswith("#")), None)]
    if len(words) > 1:
        raise ValueError(f"{where}: put a value with blanks in quotes")
    return "".join(words)
