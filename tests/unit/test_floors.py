"""The floors of the house: which folder may import which. Imports for types count like any other."""

from __future__ import annotations

import ast
import functools
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("rlm", "actors", "scheduler")
#: From the ground up: a folder imports from itself and from those that stand before it.
FLOORS = (
    "rlm/core",
    "rlm/settings",
    "rlm/plan",
    "rlm/ledger",
    "rlm/delivery",
    "rlm/processes",
    "rlm/admin",
    "rlm/telemetry",
    "rlm/terminal",
    "rlm/web",
    "actors",
    "scheduler",
    "rlm/sandbox",
    "rlm/cli",
)
#: What may lie in `rlm/` beside the folders.
LOOSE = {"__init__.py", "__main__.py", "limits_storage.py", "py.typed"}


@dataclass(frozen=True)
class Import:
    """A name that a file imports: `module` in full, and whether inside a function, or only for types."""

    file: str
    module: str
    in_function: bool
    for_types: bool


def imports_of(path):
    tree = ast.parse(path.read_text())
    yield from _walk(tree, path.relative_to(ROOT).as_posix(), in_function=False, for_types=False)


def _walk(node, file, *, in_function, for_types):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(file, alias.name, in_function, for_types)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{file}: imports are absolute here"
            for alias in child.names:
                yield Import(file, f"{child.module}.{alias.name}", in_function, for_types)
        else:
            yield from _walk(
                child,
                file,
                in_function=in_function or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda),
                for_types=for_types or (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"),
            )


@functools.cache
def all_imports():
    return [found for package in PACKAGES for path in (ROOT / package).rglob("*.py") for found in imports_of(path)]


def floor(module):
    """Return the floor of a module; None outside this project, and for the version in `rlm` itself."""
    parts = module.split(".")
    if parts[0] in {"actors", "scheduler"}:
        return parts[0]
    named = "/".join(parts[:2])
    return named if parts[0] == "rlm" and (ROOT / named).is_dir() and named != "rlm" else None


def floor_of_file(file):
    module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return None if module in {"rlm", "rlm.__main__"} else floor(module)


def test_every_folder_has_its_floor():
    """A new folder is given its place here before anything is put into it, and nothing lies loose."""
    lying = {path.name for path in (ROOT / "rlm").iterdir() if path.name != "__pycache__"}

    assert lying - LOOSE == {name.removeprefix("rlm/") for name in FLOORS if name.startswith("rlm/")}


def test_imports_go_down():
    """No file uses what stands on a higher floor, not in a function and not for its types either."""
    wrong = [
        f"{found.file}: {found.module}"
        for found in all_imports()
        if (own := floor_of_file(found.file)) and (other := floor(found.module))
        if FLOORS.index(other) > FLOORS.index(own)
    ]

    assert wrong == []
