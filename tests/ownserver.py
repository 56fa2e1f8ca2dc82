"""A real server that a test kills, changes and starts again at the moment it chooses."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Self
from unittest import mock

from rlm.ledger import embedded


class OwnServer:
    """The embedded server of a directory, which nobody but `start` starts again; a context manager."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.url = embedded.url_of(data_dir)
        self.users = ExitStack()

    def start(self) -> None:
        """Start it, if it does not run."""
        with mock.patch.object(embedded, "LOOK_SECONDS", 3600.0):
            self.users.enter_context(embedded.EmbeddedServer(self.data_dir))

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return embedded.running(self.data_dir)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.users.close()
