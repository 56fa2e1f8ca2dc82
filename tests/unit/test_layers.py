"""Who may import whom: `scheduler -> actors -> rlm`, and inside `rlm` from the surfaces down to a pure core."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("rlm", "actors", "scheduler")
#: What each package may import of the three, anywhere in a file.
ALLOWED = {"rlm": {"rlm"}, "actors": {"actors", "rlm"}, "scheduler": {"scheduler", "actors", "rlm"}}
#: Inside `rlm`, from the bottom up: a module imports its own layer and those below. What is named in no layer talks to
#: Redis or HTTP, and is in the middle.
LAYERS = (
    {"rlm", "errors"},
    {"clock", "circuit", "endpoint", "event", "run", "plan", "measured", "pace", "settings", "signals", "text"},
    {"store", "window", "delivery", "embedded", "lane", "..."},
    {"supervisor", "telemetry", "foreman"},
    {"cli", "web", "demo", "selftest", "view", "__main__"},
)
#: These compute, and know neither Redis nor HTTP nor the command line.
CORE = ("errors", "clock", "circuit", "endpoint", "event", "run", "plan", "measured", "pace", "settings", "text")
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


@dataclass(frozen=True)
class Import:
    """A name that a file imports: `module` in full, and whether that is done in a function, or for the types only."""

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


def area(file):
    """Name the area of `rlm` that a file belongs to: `store` for rlm/store/keys.py, `run` for rlm/run.py."""
    parts = Path(file).with_suffix("").parts
    return "rlm" if parts == ("rlm", "__init__") else parts[1]


def layer(name):
    middle = next(number for number, names in enumerate(LAYERS) if "..." in names)
    return next((number for number, names in enumerate(LAYERS) if name in names), middle)


def test_the_three_packages_point_one_way():
    """Nothing points back; only a command of `rlm/cli` may reach up, inside a function."""
    wrong = [
        found
        for found in IMPORTS
        if found.top in PACKAGES
        and found.top not in ALLOWED[found.file.partition("/")[0]]
        and not (found.file.startswith("rlm/cli/") and found.in_function)
    ]

    assert wrong == []


def test_inside_rlm_imports_go_down():
    """A module uses its own layer and those below; what it names for its types alone is no use."""
    wrong = []
    for found in IMPORTS:
        if found.top != "rlm" or not found.file.startswith("rlm/") or found.for_types:
            continue
        name = found.module.split(".")[1]
        target = name if (ROOT / "rlm" / name).is_dir() or (ROOT / "rlm" / f"{name}.py").exists() else "rlm"
        if layer(target) > layer(area(found.file)):
            wrong.append(found)

    assert wrong == []


def test_errors_import_nothing():
    """Everything may raise them, so they stand on nothing."""
    assert [found.module for found in IMPORTS if found.file == "rlm/errors.py"] == ["__future__.annotations"]


def test_the_core_names_nothing_of_the_outside():
    """Not one file of the pure core imports a library of the outside, not even in a function."""
    wrong = [
        found
        for found in IMPORTS
        if found.file.startswith("rlm/")
        and area(found.file) in CORE
        and (found.top in OUTSIDE or found.module.startswith(("urllib.request", "rlm.store", "rlm.cli")))
        and not found.for_types
    ]

    assert wrong == []


def test_the_core_loads_nothing_of_the_outside():
    """Imported for real, in an interpreter of its own, the core pulls in no client of Redis, HTTP or a broker."""
    code = f"import sys, {', '.join(f'rlm.{name}' for name in CORE)}; print(*sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)

    loaded = set(done.stdout.split())
    assert not loaded & (OUTSIDE - {"http", "socket"})  # the standard library is free to import its own
    assert not [name for name in loaded if name.startswith(("rlm.store", "rlm.cli", "actors", "scheduler"))]


@pytest.mark.parametrize("package", PACKAGES)
def test_only_the_clock_asks_what_time_it_is(package):
    """Time comes from `rlm/clock.py`, so that a test can set it: nobody else imports `time`."""
    files = [found.file for found in IMPORTS if found.top == "time" and found.file.startswith(f"{package}/")]

    assert files == (["rlm/clock.py"] if package == "rlm" else [])


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


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import time", ("time", False, False)),
        ("from time import sleep", ("time.sleep", False, False)),
        ("def f():\n    import scheduler.tick", ("scheduler.tick", True, False)),
        ("if TYPE_CHECKING:\n    from rlm.store import Store", ("rlm.store.Store", False, True)),
        ("class A:\n    try:\n        import x\n    except E:\n        pass", ("x", False, False)),
    ],
)
def test_this_test_sees_every_kind_of_import(code, expected):
    """A check that finds nothing is worth something only if it would have found something."""
    (found,) = _walk(ast.parse(code), "rlm/x.py", in_function=False, for_types=False)

    assert (found.module, found.in_function, found.for_types) == expected
