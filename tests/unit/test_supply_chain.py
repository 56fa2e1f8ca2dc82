"""The installed packages are the listed ones: exact versions of all, and hashes for users of the wheel."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PROJECT = tomllib.loads(PYPROJECT)
CONSTRAINTS = (ROOT / "docs" / "constraints.txt").read_text(encoding="utf-8")
#: What stands behind this line of the list is not installed everywhere.
ELSEWHERE = "# For the groups bench and prices, or for other systems and older Pythons."


def pins(lines):
    return dict(line.split("==") for line in lines)


def pinned():
    """Return the listed packages, and the names of those installed everywhere."""
    everywhere = re.findall(r'^    "([^"]+==[^"]+)",$', PYPROJECT.partition(ELSEWHERE)[0], re.MULTILINE)
    return pins(PROJECT["tool"]["uv"]["constraint-dependencies"]), set(pins(everywhere))


def installed(requirements):
    """Return by name the versions that these requirements bring into this environment."""
    versions, seen, waiting = {}, set(), [Requirement(text) for text in requirements]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if (name, frozenset(wanted.extras)) in seen:
            continue
        seen.add((name, frozenset(wanted.extras)))
        found = distribution(name)
        versions[name] = found.version
        further = map(Requirement, found.requires or ())
        waiting += [one for one in further if any(applies(one, extra) for extra in ("", *wanted.extras))]
    return versions


def applies(requirement, extra):
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def exported():
    """Return the entry of each package in docs/constraints.txt: version, marker, hashes."""
    entries = re.findall(r"^([a-z0-9-]+)==(\S+)(?: ; (.+?))? \\\n((?:    .+\n)+)", CONSTRAINTS, re.MULTILINE)
    return {name: (version, marker, hashes) for name, version, marker, hashes in entries}


RUNTIME = PROJECT["project"]["dependencies"]


def test_all_that_is_installed_is_listed_with_its_version():
    """With what comes along; nothing is listed that is not there any more."""
    found = installed([*RUNTIME, *PROJECT["dependency-groups"]["dev"]])
    listed, everywhere = pinned()

    assert {name: listed.get(name) for name in found} == found
    assert everywhere - set(found) == set()


def test_the_versions_with_hashes_are_those_that_are_listed():
    """docs/deployment.md says how the file is made anew."""
    listed, _ = pinned()
    found, entries = installed(RUNTIME), exported()

    assert {name: version for name, (version, _, _) in entries.items()} == {name: listed[name] for name in entries}
    assert set(found) <= set(entries)
    assert {name for name, (_, marker, _) in entries.items() if not marker} <= set(found)


def test_every_version_has_hashes_and_no_host_is_named():
    """So that `pip install --require-hashes` takes it, from whatever index or mirror."""
    hashes = re.compile(r"(    --hash=sha256:[0-9a-f]{64}( \\)?\n)+")

    assert all(hashes.fullmatch(told) for _, _, told in exported().values())
    lines = [line for line in CONSTRAINTS.splitlines() if not line.startswith(("#", "    "))]
    assert len(lines) == len(exported())
    assert "://" not in CONSTRAINTS
    assert "index" not in CONSTRAINTS.lower()
