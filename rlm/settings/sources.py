"""Reading: which file it is, what stands in it, and what the environment says."""

from __future__ import annotations

import os
import re
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

from rlm.core.errors import ConfigurationError
from rlm.core.trust import read_trusted
from rlm.settings.document import SECTIONS
from rlm.settings.faults import Fault, close_match, did_you_mean, show
from rlm.settings.model import BudgetSettings, TypeSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from rlm.settings.layers import Place

FILE_NAME = "rlm.toml"
FILE_VARIABLE = "RLM_CONFIG"
PREFIX = "RLM_"
SEPARATOR = "__"

_TOML_POSITION = re.compile(r" \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$")
#: More parts than any key of RLM has. The parser takes time by the square of their number: a minute for 50,000.
_MOST_PARTS = 50
_LONG_KEY = re.compile(
    rf"""(?<![\w\\-])(?:(?:"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+'|[A-Za-z0-9_-]++)[ \t]*+\.[ \t]*+){{{_MOST_PARTS}}}"""
)


def choose_file(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the file to read, absolute: the given one, else `$RLM_CONFIG`, else `./rlm.toml` where there is one.

    Raises:
        ConfigurationError: a file was named and does not exist, or none was and there is no current directory.
    """
    variable = environ.get(FILE_VARIABLE)
    if path is None and variable:
        return _existing(Path(variable), f"environment {FILE_VARIABLE}")
    if path is not None:
        return _existing(path, "--config")
    usual = current_directory() / FILE_NAME
    return usual if os.path.lexists(usual) else None


def current_directory() -> Path:
    """Return where this process is.

    Raises:
        ConfigurationError: it was removed, or may not be looked at.
    """
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


def read_file(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Raises:
        UnsafeError: another user could change it, or it is no regular file.
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
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path}{_syntax_error(str(error), text)}") from None


def _syntax_error(message: str, text: str) -> str:
    """Say where and why the text is no TOML; the parser has the position, if any, at the end of its message."""
    found = _TOML_POSITION.search(message)
    if not found:
        return f": is not valid TOML: {message}"
    lines = text.split("\n")
    line, column = found["line"] or len(lines), found["column"] or len(lines[-1]) + 1
    return f":{line}:{column}: is not valid TOML: {message[: found.start()]}"


def read_environment(
    environ: Mapping[str, str], types: Iterable[str], budgets: Iterable[str] = ()
) -> tuple[dict[Place, Any], dict[Place, str], list[Fault]]:
    """Return the overrides by place, the variable behind each, and the variables that override nothing.

    `REDIS_URL` counts as well, below `RLM_REDIS__URL`. A value becomes a number or a list where the setting is one;
    what cannot be converted is left for the validation to report. `types` and `budgets` name the configured ones.
    """
    known = _known_variables(types, budgets)
    values: dict[Place, Any] = {}
    variables: dict[Place, str] = {}
    faults = []
    if environ.get("REDIS_URL"):
        values["redis", "url"], variables["redis", "url"] = environ["REDIS_URL"], "REDIS_URL"
    for variable in sorted(filter(_is_override, environ)):
        match known.get(variable.upper(), []):
            case [(place, kind)]:
                values[place], variables[place] = convert(environ[variable], kind), variable
            case candidates:
                subject = f"{variable} = {show((variable,), environ[variable])}"
                faults.append(Fault((), "environment", subject, _unmatched(variable, candidates, known)))
    return values, variables, faults


def variable_name(place: Iterable[str]) -> str:
    """Return the variable that overrides the scalar at `place`; what a variable's name cannot have becomes `_`."""
    return PREFIX + SEPARATOR.join(re.sub(r"[^A-Z0-9_]", "_", part.upper()) for part in place)


def _is_override(variable: str) -> bool:
    return variable.startswith(PREFIX) and SEPARATOR in variable.removeprefix(PREFIX)


def _known_variables(types: Iterable[str], budgets: Iterable[str]) -> dict[str, list[tuple[Place, Any]]]:
    """Map each variable to the scalars it may mean: more than one where names differ in case or punctuation only."""
    known: dict[str, list[tuple[Place, Any]]] = defaultdict(list)
    for place, kind in scalars(types, budgets):
        known[variable_name(place)].append((place, kind))
    return known


def scalars(types: Iterable[str], budgets: Iterable[str]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield place and annotation of each setting that a variable can override, `types` and `budgets` included."""
    for section, model in SECTIONS.items():
        for key, described in model.model_fields.items():
            yield (section, key), described.annotation
    for name in types:
        for key in set(TypeSettings.model_fields) - {"endpoints"}:
            yield ("types", name, key), TypeSettings.model_fields[key].annotation
    for name in budgets:
        for key, described in BudgetSettings.model_fields.items():
            yield ("budgets", name, key), described.annotation


def convert(text: str, kind: Any) -> Any:
    """Make a number or list of `text` if a setting of that `kind` is one; the validation reports what is none."""
    if get_origin(kind) is list:
        return [part.strip() for part in text.split(",") if part.strip()]
    number = next((one for one in (kind, *get_args(kind)) if one in (int, float)), str)
    try:
        return number(text)
    except ValueError:
        return text


def _unmatched(variable: str, candidates: list[tuple[Place, Any]], known: Mapping[str, Any]) -> str:
    if candidates:
        return f"may mean {' or '.join(str(place[1]) for place, _ in candidates)}; set it in the file"
    near = close_match(variable, known, cutoff=0.8)
    return f"no such setting{did_you_mean(near)}; a variable is {PREFIX}<SECTION>{SEPARATOR}<KEY>"
