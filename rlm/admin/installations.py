"""Several installations at once: a line for each, and their totals.

Each is identified by its configuration file. All are queried in parallel, so a silent one delays no other. Nothing is
started: an embedded server that does not run is reported.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from rlm.admin import words
from rlm.admin.report import looked_at, overview
from rlm.admin.unwell import shut
from rlm.admin.verdict import verdict
from rlm.core.errors import ConfigurationError, RLMError, StoreUnreachableError
from rlm.core.text import LONGEST_LINE, harmless
from rlm.ledger import Store
from rlm.ledger.server import running_url
from rlm.settings import Settings, load_settings, secrets_of
from rlm.settings.secrets import EMBEDDED

#: Seconds to wait for an answer of a Redis, and for everything from one installation.
ANSWER_SECONDS: Final = 2.0
PATIENCE_SECONDS: Final = 5.0
#: States of installations that cannot be shown, in addition to those of a status.
UNREACHABLE: Final = "unreachable"
MISCONFIGURED: Final = "misconfigured"


def find_installations(places: Sequence[Path]) -> dict[str, Path]:
    """Return the named configuration files, and all `*.toml` of named folders, each once, by installation name.

    The name is the file name without `.toml`; files with the same name are named by their paths.

    Raises:
        ConfigurationError: a place does not exist, or a folder has no such file.
    """
    files: dict[Path, Path] = {}
    for place in places:
        found = sorted(place.glob("*.toml")) if place.is_dir() else [place]
        if not found or not place.exists():
            what = "has no file *.toml" if found == [] else "does not exist"
            raise ConfigurationError(f"{str(place)!r} {what}: name a configuration file, or a folder of such files")
        files |= {one.resolve(): one for one in found}
    stems = [one.stem for one in files.values()]
    return {one.stem if stems.count(one.stem) == 1 else str(one): one for one in files.values()}


def overview_of_all(
    installations: Mapping[str, Path],
    environ: Mapping[str, str] = os.environ,
    patience_seconds: float = PATIENCE_SECONDS,
) -> dict[str, Any]:
    """Return an entry for each installation, and their totals, as `rlm status --all --json` prints them.

    It takes at most `patience_seconds`. Two files with the same Redis and prefix are one installation: the first file
    counts, the second is misconfigured.
    """
    asked: list[dict[str, Any] | Future[dict[str, Any]]] = []
    seen: dict[tuple[str, ...], str] = {}
    for name, path in installations.items():
        try:
            settings = load_settings(path, environ)
            if first := seen.get(_identity(settings)):
                raise ConfigurationError(f"it is the same installation as {first}: the same Redis and redis.prefix")
            seen[_identity(settings)] = name
        except RLMError as error:
            asked.append(_entry(name, path, MISCONFIGURED, str(error)))
        else:
            asked.append(_ask(name, path, settings, environ))
    wait([one for one in asked if isinstance(one, Future)], patience_seconds)
    late = f"no answer within {patience_seconds:g} s"
    each = [
        one if isinstance(one, dict) else one.result() if one.done() else _entry(name, path, UNREACHABLE, late)
        for (name, path), one in zip(installations.items(), asked, strict=True)
    ]
    # File names and the content of a foreign Redis must break neither the screen nor the document.
    each = [{key: harmless(value, LONGEST_LINE) for key, value in one.items()} for one in each]
    return {"installations": each, "totals": _totals(each)}


def _identity(settings: Settings) -> tuple[str, ...]:
    is_embedded = settings.redis.url == EMBEDDED
    return str(settings.data_dir) if is_embedded else settings.redis.url, settings.redis.prefix


def _ask(name: str, path: Path, settings: Settings, environ: Mapping[str, str]) -> Future[dict[str, Any]]:
    """Query an installation in a thread of its own, which ends at the latest with the process."""
    answer: Future[dict[str, Any]] = Future()

    def ask() -> None:
        try:
            answer.set_result(_entry(name, path) | _look(settings))
        except Exception as error:  # noqa: BLE001  # an error of one must not hide the others
            answer.set_result(_entry(name, path, UNREACHABLE, secrets_of(settings, environ).mask(str(error))))

    threading.Thread(target=ask, daemon=True, name=f"status of {name}").start()
    return answer


def _look(settings: Settings) -> dict[str, Any]:
    if (url := running_url(settings)) is None:
        raise StoreUnreachableError("its embedded server does not run", "`rlm up` starts it")
    with closing(Store(settings, url, answer_seconds=ANSWER_SECONDS)) as store, store.guarded():
        return _shown(overview(store) | looked_at(store))


def _shown(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what to show of an installation that answered with `report.overview`."""
    run = found if words.is_open(found) else found.get("last_record")
    told = verdict(found)
    return {
        "state": str(found["state"]),
        "redis": found["redis"],
        "prefix": found["prefix"],
        "run_id": run and run["run_id"],
        "done": run["counts"]["completed"] + run["counts"]["failed"] if run else 0,
        "left": run["counts"]["leftover"] if run else 0,
        "seconds_left": found.get("seconds_left"),
        "ends_in_seconds": words.ends_in_seconds(found) if words.is_open(found) else None,
        "level": str(told.level),
        "verdict": told.words,
        "endpoints": len(found["by_endpoint"] | found.get("by_budget", {})),
        "unwell": len(shut(found)),
    }


def _entry(name: str, path: Path, state: str = "", error: str | None = None) -> dict[str, Any]:
    nothing = dict.fromkeys(("redis", "prefix", "run_id", "done", "left", "seconds_left", "ends_in_seconds", "level"))
    nothing |= dict.fromkeys(("verdict", "endpoints", "unwell"))
    return {"name": name, "config": str(path), "state": state, **nothing, "error": error}


def _totals(each: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    answered = [one for one in each if one["error"] is None]
    return {
        "installations": len(each),
        "answered": len(answered),
        "open": sum(one["seconds_left"] is not None for one in answered),
        "done": sum(one["done"] for one in answered),
        "left": sum(one["left"] for one in answered),
        "endpoints": sum(one["endpoints"] for one in answered),
        "unwell": sum(one["unwell"] for one in answered),
    }
