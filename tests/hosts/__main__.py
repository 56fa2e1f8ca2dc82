"""Runs trials and prints the verdict and the measurements: `python -m tests.hosts NAME... [--into DIR]`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.hosts.net import why_not
from tests.hosts.trial import run_trial
from tests.hosts.trials import TRIALS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", choices=TRIALS, metavar="NAME", help=", ".join(TRIALS))
    parser.add_argument("--into", type=Path, help="where logs and evidence are kept")
    chosen = parser.parse_args()
    if reason := why_not():
        sys.exit(reason)
    broken = 0
    for name in chosen.names:
        into = chosen.into or Path(tempfile.mkdtemp(prefix="rlm-hosts-"))
        result = run_trial(TRIALS[name], into / name)
        broken += len(result["faults"])
        print(json.dumps({"trial": name, "evidence": str(into / name), **result}, indent=1), flush=True)
    return min(broken, 1)


if __name__ == "__main__":
    sys.exit(main())
