"""A whole system with a past, for the tests that look at every page, and what a browser tells of a page."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from rlm.web.pages import PAGES
from tests.acceptance.system import System
from tests.acceptance.webprocess import port_of
from tests.leftbehind import nothing_left_behind
from tests.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Windows of 30 s: long enough to look at every page while one is open.
SPEED = 6.0


@contextmanager
def stage(speed: float = SPEED, **options) -> Iterator[tuple[System, str]]:
    """Yield a system that runs, and the address of its `rlm web`."""
    with (
        TemporaryDirectory(prefix="rlm-browser-") as place,
        nothing_left_behind(Path(place)),
        System(Path(place), speed=speed, **options) as system,
    ):
        system.start("web", "web", "--port", "0")
        system.start_both()
        yield system, f"http://127.0.0.1:{port_of(lambda: system.log('web'))}"


def give_a_past(system: System) -> list[str]:
    """Leave a run that completed, one that was cancelled, dead letters, and one that is open; return their ids."""
    system.api.set_faults({"overflow_balance_check_api_2": {"error_rate": 0.5, "status": 422}})
    system.rlm("endpoint", "pause", "overflow_balance_update_api_3", "--for", "10m")
    ids = []
    for number, events in enumerate((100, 1500)):
        system.push([{"id": f"bad-{number}", "wallet_name": "<b>wallet</b>", "events": ["NOT_A_TYPE"]}])
        system.push_evenly(events, prefix=f"r{number}-")
        ids.append(system.ask_for_run())
        if number:
            wait_until(system.inflight, timeout=30, message="calls are under way")
            system.rlm("cancel")
        system.await_record(ids[-1], timeout=60)
    system.push_evenly(100, prefix="open-")
    ids.append(system.ask_for_run())
    wait_until(system.inflight, timeout=30, message="calls are under way")
    return ids


def every_path(system: System, runs: list[str]) -> list[str]:
    """Return a path of each page, those of a run, an event and a comparison included."""
    filled = {"{run_id}": runs[-1], "{event_id:path}": min(system.pushed)}
    paths = []
    for page in PAGES:
        path = page.path
        for name, value in filled.items():
            path = path.replace(name, value)
        assert "{" not in path, path
        paths.append(path)
    a, b = runs[:2]
    more = {"/runs/compare": f"?a={a}&b={b}", "/search": "?q=wallet_001"}
    return [f"{path}{more.get(path, '')}" for path in paths]
