"""One trial from end to end: its course, then the remaining work, then the judge."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from tests.hosts.bench import HostBench, sleep_until
from tests.hosts.figures import figures
from tests.hosts.judge import TrialEvidence, faults
from tests.hosts.watch import Observer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hosts.trials import Trial

#: Windows after its course within which everything that a trial pushed must be settled.
_WINDOWS_AFTER = 5


def run_trial(trial: Trial, directory: Path) -> dict[str, Any]:
    """Run a trial in `directory`; return `faults`, `unmet` demands, figures, and the results of its course."""
    directory.mkdir(parents=True)
    with HostBench(directory, trial.layout, hosts=trial.hosts, env=trial.env) as bench:
        with Observer(bench) as watch:
            found = trial.course(bench, watch)
            _settle(bench)
        watch.dump()
        evidence = _evidence(bench)
        addresses = {name: host.port.address for name, host in bench.hosts.items()}
    result = {
        "faults": faults(evidence),
        "trial_found": found,
        "most_workers": watch.most_workers(),
        "hosts": addresses,
        **figures(evidence),
    }
    result["unmet"] = [one for demand in trial.demands for one in demand(result)]
    (directory / "records.json").write_text(json.dumps(evidence.records, indent=1))
    (directory / "result.json").write_text(json.dumps(result, indent=1))
    return result


def _settle(bench: HostBench) -> None:
    """Wait until nothing waits any more; some items for the last run show that there is a next one, on time."""
    bench.push_for_tick(20, "last")
    deadline = time.time() + _WINDOWS_AFTER * bench.layout.window
    sleep_until(bench.next_tick() + 2)
    while time.time() < deadline and bench.left()[0] != 0:
        time.sleep(1)


def _evidence(bench: HostBench) -> TrialEvidence:
    time.sleep(bench.layout.takes + 1.0)  # the API's log has the last answers
    waiting, dead = bench.left()
    return TrialEvidence(
        bench.layout, bench.pushed, bench.calls(), bench.records(), waiting, dead, bench.rlm("compliance")
    )
