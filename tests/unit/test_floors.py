"""The floors of the house: which folder may import which. Imports for types count like any other."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

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
#: These compute: they know neither Redis nor HTTP nor the command line.
PURE = ("rlm/core", "rlm/settings", "rlm/plan")
OUTSIDE = {
    "redis",
    "urllib3",
    "httptools",
    "dramatiq",
    "limits",
    "click",
    "sentry_sdk",
    "apscheduler",
    "http",
    "socket",
}
#: What may lie in `rlm/` beside the folders.
LOOSE = {"__init__.py", "__main__.py", "limits_storage.py", "py.typed"}


@dataclass(frozen=True)
class Import:
    """A name that a file imports: `module` in full, and whether inside a function, or only for types."""

    file: str
    module: str
    in_function: bool
    for_types: bool

    @property
    def top(self):
        return self.module.partition(".")[0]


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


IMPORTS = [found for package in PACKAGES for path in (ROOT / package).rglob("*.py") for found in imports_of(path)]


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
        for found in IMPORTS
        if (own := floor_of_file(found.file)) and (other := floor(found.module))
        if FLOORS.index(other) > FLOORS.index(own)
    ]

    assert wrong == []


def test_errors_import_nothing():
    """Everything may raise them, so they stand on nothing."""
    assert [found.module for found in IMPORTS if found.file == "rlm/core/errors.py"] == ["__future__.annotations"]


def test_what_computes_names_nothing_of_the_outside():
    """Not one file of the pure floors imports a library of the outside, not even in a function."""
    wrong = [
        found
        for found in IMPORTS
        if floor_of_file(found.file) in PURE
        and (found.top in OUTSIDE or found.module.startswith("urllib.request"))
        and not found.for_types
    ]

    assert wrong == []


def test_what_computes_loads_nothing_of_the_outside():
    """Imported for real, in an interpreter of its own, the pure floors pull in no client of Redis, HTTP or a broker."""
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for folder in PURE
        for path in (ROOT / folder).glob("*.py")
    ]
    code = f"import sys, {', '.join(names)}; print(*sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)

    loaded = set(done.stdout.split())
    assert not loaded & (OUTSIDE - {"http", "socket"})  # the standard library is free to import its own
    assert {floor(name) for name in loaded} - {None} == set(PURE)


@pytest.mark.parametrize("package", PACKAGES)
def test_only_the_clock_asks_what_time_it_is(package):
    """Time comes from `rlm/core/clock.py`, so that a test can set it: nobody else imports `time`."""
    files = [found.file for found in IMPORTS if found.top == "time" and found.file.startswith(f"{package}/")]

    assert files == (["rlm/core/clock.py"] if package == "rlm" else [])


def test_nobody_asks_datetime_what_time_it_is_either():
    """`datetime.now` and its kin are the same question by another door."""
    asked = []
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and node.attr in {"now", "utcnow", "today"}:
                    base = ast.unparse(node.value)
                    if base.endswith(("datetime", "date")):
                        asked.append(f"{path.relative_to(ROOT)}:{node.lineno}")

    assert asked == []


#: What Dramatiq's broker does with Redis is its own: it has a client, and its consumer outlives what that raises.
BROKER = {"actors/broker.py"}


def test_only_the_ledger_asks_redis():
    """Everybody else gets plain values: no library of Redis, no client of a store, no command of their own."""
    imported = {found.file for found in IMPORTS if found.top == "redis" or found.module.endswith("connect.translated")}
    asking = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if any(map(_is_client_of_a_store, ast.walk(ast.parse(path.read_text()))))
    }

    assert {file for file in imported | asking if not file.startswith("rlm/ledger/")} - BROKER == set()


def test_only_the_ledger_spells_keys():
    """Others know two names: the broker's namespace, and the channels on which processes wake each other."""
    spelled = {
        node.attr
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if not path.is_relative_to(ROOT / "rlm/ledger")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith("store.keys")
    }

    assert spelled == {"dramatiq", "wake"}


def _is_client_of_a_store(node):
    return isinstance(node, ast.Attribute) and node.attr == "client" and ast.unparse(node.value).endswith("store")
