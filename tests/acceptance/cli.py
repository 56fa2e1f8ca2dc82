"""The commands of an installation of its own on a shared server, run in this process."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from click.testing import CliRunner, Result

from rlm.cli.group import rlm
from rlm.core.run import Run
from rlm.delivery.run_end import make_record
from rlm.ledger.books import read_ending
from rlm.ledger.store import Store
from rlm.settings import load_settings
from tests.store import steps, windows


def words_of(done: Result) -> str:
    """Return what a command printed on one line, without the frame of a picture."""
    return " ".join(re.sub("[│╭╮╰╯─]", " ", done.stdout).split())


class Installation:
    """A configuration in `directory` on the server at `url`, with a key prefix of its own.

    `sections` are added to the file. As a context manager it deletes its keys at the end.
    """

    def __init__(self, directory: Path, url: str, sections: str = "") -> None:
        self.prefix = f"t{uuid4().hex[:8]}"
        self.config = directory / f"{self.prefix}.toml"
        lists = "\n".join(f'{name} = "{self.prefix}_{name}"' for name in ("events", "processing", "failed"))
        self.config.write_text(
            f'[redis]\nurl = "{url}"\nprefix = "{self.prefix}"\n[queue]\nmax_item_bytes = 1024\n{lists}\n{sections}'
        )
        self.settings = load_settings(self.config, {})
        self.store = Store(self.settings, url)

    def __enter__(self) -> Self:
        windows.trust(self.store)
        self.token = self.store.leases.contend(steps.CONDUCTOR, 600).token
        return self

    def __exit__(self, *exc: object) -> None:
        for key in self.store.client.scan_iter(match=f"{self.prefix}*", count=1000):
            self.store.client.delete(key)
        self.store.client.close()

    def rlm(self, *args: str, code: int = 0, input: str | bytes | None = None) -> Result:  # noqa: A002  # click's name
        """Run a command, which must end with `code`."""
        done = CliRunner().invoke(rlm, [*args, "--config", str(self.config)], input=input)
        assert done.exit_code == code, (args, done.exit_code, done.output, done.exception)
        return done

    def json(self, *args: str, code: int = 0, input: str | bytes | None = None) -> Any:  # noqa: A002  # click's name
        """Run a command with `--json` and return the only document on its stdout."""
        return json.loads(self.rlm(*args, "--json", code=code, input=input).stdout)

    def push(self, *items: bytes) -> None:
        """Push items like the audit system."""
        steps.push(self.store, *items)

    def start_run(self, window_seconds: float = 60.0) -> Run:
        """Open a run, drain the audit list into it, and set it running; nobody conducts it."""
        return steps.start_run(self.store, self.token, window_seconds)

    def close_run(self, run: Run) -> None:
        """Close a run: unsettled events are left over."""
        steps.finish(self.store, self.token, run)
        record = make_record(self.store.settings, run, read_ending(self.store, run))
        assert self.store.runs.close(run.id, record, wanted=0) == 1
