"""Runs mutants of the engine: `uv run python -m tests.mutants [ID ...]`, all without an ID.

Each of `mutants.toml` breaks one promise by a small change. It is made in a copy of the tree, and the test files that
exercise its code are run there until one fails: then the mutant is killed. `killed_by` is the test that has killed it
before, and is run first. The exit status is 1 if a mutant survives that is not marked as `equivalent`.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Seconds for the tests of one mutant. A mutant at which they hang is killed as well.
MOST_SECONDS = 600
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+?::.+?)(?: - .*)?$", re.MULTILINE)
#: What a run of pytest returns if a test failed, and if the run was broken off.
_KILLED, _BROKEN_OFF = 1, 2


def read_mutants() -> dict[str, dict]:
    """Return the mutants by their ids."""
    with (ROOT / "tests/mutants/mutants.toml").open("rb") as file:
        return {mutant["id"]: mutant for mutant in tomllib.load(file)["mutant"]}


def copy_tree(tree: Path) -> None:
    """Copy what the tests need, without what is built or cached."""
    ignore = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", ".hypothesis", ".rlm")
    shutil.copytree(ROOT, tree, ignore=ignore)


def make_environment(tree: Path) -> None:
    """Give the copy a `python` and an `rlm` that import from it, whatever their environment, and else from here."""
    venv.create(tree / ".venv", symlinks=True)
    ours, theirs = (sysconfig.get_path("purelib", vars={"base": str(base)}) for base in (sys.prefix, tree / ".venv"))
    Path(theirs, "copy.pth").write_text(f"{tree}\n{ours}\n")  # no file of ours that names the sound tree is read
    script = Path(sys.executable).with_name("rlm").read_text()
    (tree / ".venv/bin/rlm").write_text(script.replace(sys.prefix, str(tree / ".venv"), 1))
    (tree / ".venv/bin/rlm").chmod(0o755)


def run_tests(tree: Path, tests: list[str]) -> tuple[int, str]:
    """Run test files in a copy of the tree; return pytest's exit status and what it printed."""
    python, environment = tree / ".venv/bin/python", {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    processes = "-n2" if len(tests) > 1 else "-n0"
    command = [python, "-m", "pytest", "-x", "-q", processes, "--tier", "all", *tests]
    with subprocess.Popen(
        command, cwd=tree, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0
    ) as pytest:
        try:
            printed, _ = pytest.communicate(timeout=MOST_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(pytest.pid, signal.SIGKILL)
            return _KILLED, f"ERROR {tests[0]}::no end after {MOST_SECONDS} s"
    return pytest.returncode, printed


def verdict_of(mutant: dict, tree: Path) -> str:
    """Apply a mutant to the copy, run its tests, and restore the copy; return what became of it, in words."""
    path, sound = tree / mutant["file"], (tree / mutant["file"]).read_text()
    if sound.count(mutant["old"]) != 1:
        return f"stale: its text occurs {sound.count(mutant['old'])} times in {mutant['file']}"
    path.write_text(sound.replace(mutant["old"], mutant["new"]))
    try:
        for tests in filter(None, (mutant.get("killed_by", "").splitlines(), mutant["tests"])):
            status, printed = run_tests(tree, tests)
            if status in {_KILLED, _BROKEN_OFF} and (failed := _FAILED.search(printed)):
                return f"killed by {failed[1]}"
    finally:
        path.write_text(sound)
    return "survived" if status == 0 else f"broken: pytest ended with {status}\n{printed[-2000:]}"


def main(ids: list[str]) -> int:
    """Run the mutants with these ids; return the exit status."""
    mutants = read_mutants()
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="rlm-mutants.") as directory:
        tree = Path(directory, "tree").resolve()
        copy_tree(tree)
        make_environment(tree)
        for one in ids or mutants:
            verdict = verdict_of(mutants[one], tree)
            is_equivalent = "equivalent" in mutants[one]
            survivors += not verdict.startswith("killed") and not is_equivalent
            print(f"{one}: {verdict}{' (equivalent)' if is_equivalent else ''}", flush=True)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
