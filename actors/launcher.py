"""Starts worker processes from a template, and deletes what a dead one had fetched from the broker."""

from __future__ import annotations

from functools import partial

from actors.broker import WakingBroker
from actors.worker import run_worker
from rlm.ledger import Store, open_store
from rlm.processes.fork import Forked, Template
from rlm.settings import Settings


def worker_template(settings: Settings) -> Template:
    """Return a template of workers: enter it before this process has threads and connections.

    Each worker has the settings given here: a configuration file that was edited meanwhile is not read, and a secret in
    it stands on no command line. It opens a store that was made here: its memory is shared.
    """
    return Template(partial(run_worker, open_store(settings)))


class TemplateLauncher:
    """Spawns workers from a template: 20 are ready in half a second, and share what it has imported."""

    def __init__(self, template: Template, store: Store) -> None:
        self._template = template
        self._broker = WakingBroker(store.url, store.keys.dramatiq)

    def spawn(self, worker_id: str, supervisor_id: str) -> Forked:
        """Start a worker process; the end of the supervisor does not cut its calls."""
        return self._template.spawn(worker_id, supervisor_id)

    def forget(self, worker_id: str) -> None:
        """Delete the messages that a dead worker had fetched."""
        self._broker.forget(worker_id)
