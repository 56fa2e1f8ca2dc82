"""A whole system for the tests that open every page of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.acceptance.system import System
from tests.acceptance.webprocess import port_of
from tests.leftbehind import nothing_left_behind

#: Windows of 30 s: long enough to open every page during one run.
SPEED = 6.0


@contextmanager
def stage(speed: float = SPEED, **options) -> Iterator[tuple[System, str]]:
    """Yield a running system, and the address of its `rlm web`."""
    with (
        TemporaryDirectory(prefix="rlm-browser-") as place,
        nothing_left_behind(Path(place)),
        System(Path(place), speed=speed, **options) as system,
    ):
        system.start("web")
        system.start_both()
        yield system, f"http://127.0.0.1:{port_of(lambda: system.log('web'))}"
