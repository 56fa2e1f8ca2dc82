"""The layers over the defaults: the file, the environment and options (`--set`); also the reader of .env files."""

from __future__ import annotations

import os
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from rlm.core.errors import ConfigurationError
from rlm.core.files import read_trusted
from rlm.core.text import did_you_mean, safe_line
from rlm.settings.layers import OPTION, Layers, layered, settings_at
from rlm.settings.toml import Place, dotted

FILE_NAME = "rlm.toml"
FILE_VARIABLE = "RLM_CONFIG"
_PREFIX = "RLM_"
_SEPARATOR = "__"

_EXAMPLE = "run.target=0.5 or types.REBALANCE_NEEDED.rate_limit=60/minute"

#: A line of a .env file.


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
        return layered(tomllib.loads(read_trusted(path).decode("utf-8-sig")), path)
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"file {path}: is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"file {path}: is not valid TOML: {error}") from None
    except OSError as error:
        raise ConfigurationError(f"file {path}: cannot be read: {error.strerror}") from error


def put_environment(layers: Layers, environ: Mapping[str, str]) -> None:
    """Put `environ` into the tables, `REDIS_URL` below the others; a variable without effect is a fault."""
    known: dict[str, list[Place]] = defaultdict(list)
    for table in layers.settable():
        for place in ((*table, key) for key, setting in settings_at(table).items() if setting.section is None):
            known[variable_name(place)].append(place)  # names that differ only in case or punctuation share one
    if environ.get("REDIS_URL"):
        layers.put(("redis", "url"), environ["REDIS_URL"], "environment REDIS_URL")
    for variable in sorted(environ):
        if not variable.startswith(_PREFIX) or _SEPARATOR not in variable.removeprefix(_PREFIX):
            continue
        match known.get(variable.upper(), []):
            case [place]:
                layers.put(place, _converted(environ[variable], place), f"environment {variable}")
            case []:
                near = did_you_mean(variable, known, cutoff=0.8)
                rule = f"a variable is {_PREFIX}<SECTION>{_SEPARATOR}<KEY> and sets a single value"
                layers.faults.append(f"environment {safe_line(variable)}: no such setting{near}; {rule}")
            case several:
                names = " or ".join(str(place[1]) for place in several)
                layers.faults.append(f"environment {variable}: may mean {names}; set it in the file")


def variable_name(place: Iterable[str | int]) -> str:
    """Return the variable that overrides the setting at `place`; characters not allowed in a variable become `_`."""
    return _PREFIX + _SEPARATOR.join(re.sub(r"[^A-Z0-9_]", "_", str(part).upper()) for part in place)


def _converted(text: str, place: Place) -> Any:
    """Return `text` converted to the setting's type if possible; validation reports text that cannot be converted."""
    setting = settings_at(place[:-1]).get(str(place[-1]))
    if setting is None or setting.plain is str:
        return text
    if setting.plain == list[str]:
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return msgspec.convert(text, setting.plain, strict=False)
    except msgspec.ValidationError:
        return text


def put_options(layers: Layers, texts: Iterable[str]) -> None:
    """Put the values of `texts` (`KEY=VALUE` each) into the tables; an unreadable text is a fault.

    Keys are written as in messages: `types.X.endpoints[1].rate_limit`. Validation reports keys that a table lacks.
    """
    tables: dict[str, Place] = {dotted(place): place for place in (*layers.settable(), *layers.endpoints())}
    for text in texts:
        key, equals, value = text.partition("=")
        table, _, name = key.rpartition(".")
        place = (*tables.get(table, ()), name)
        if not equals:
            problem = f"is not KEY=VALUE, for example {_EXAMPLE}"
        elif table not in tables:
            near = did_you_mean(table, tables)
            problem = f"no such setting{near}; a key is SECTION.KEY or types.TYPE.KEY, for example {_EXAMPLE}"
        elif layers.origins.get(place) == OPTION:
            problem = "is given twice; once is enough"
        else:
            layers.put(place, _converted(value, place), OPTION)
            continue
        layers.faults.append(f"{OPTION}: {safe_line(key)}: {problem}")
