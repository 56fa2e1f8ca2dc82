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

#: What an earlier run began with, each: one that completes, one that leaves events over.
BEFORE = (60, 900)
#: Windows of 9 s.
SPEED = 20.0


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
    """Have runs that are over, dead letters, an endpoint that fails and one that is paused; return the ids of the runs."""
    ids = []
    for number, events in enumerate(BEFORE):
        system.push_evenly(events, prefix=f"r{number}-")
        system.push([{"id": f"bad-{number}", "wallet_name": "<b>wallet</b>", "events": ["NOT_A_TYPE"]}])
        ids.append(system.ask_for_run())
        system.await_record(ids[-1], timeout=90)
        system.api.set_faults({"overflow_balance_check_api_2": {"error_rate": 0.5, "status": 422}})
    system.rlm("endpoint", "pause", "overflow_balance_update_api_3", "--for", "10m")
    return ids


def every_path(system: System, runs: list[str]) -> list[str]:
    """Return a path of each page, those of a run, an event and a comparison included, and those of nothing."""
    (event, *_), (letter, *_) = sorted(system.pushed), system.store.letters.all()
    assert letter
    filled = {"{run_id}": runs[-1], "{event_id:path}": event}
    paths = []
    for page in PAGES:
        path = page.path
        for name, value in filled.items():
            path = path.replace(name, value)
        assert "{" not in path, path
        paths.append(path)
    a, b = runs[-2:]
    more = {"/runs/compare": f"?a={a}&b={b}", "/search": "?q=wallet_001"}
    return [f"{path}{more.get(path, '')}" for path in paths]


def look(driver, base: str, path: str) -> None:
    """Load a page and wait for the first news of it."""
    driver.get(base + path)
    wait_until(lambda: driver.execute_script("return document.readyState") == "complete", message=f"{path} is there")
