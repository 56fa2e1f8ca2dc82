"""Shows runs: a status or a record once, or a status repeatedly.

Modules that draw are imported only for a picture: programs and pipes get none.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rlm.admin import report
from rlm.cli.common import ExitCode, stop_signals
from rlm.cli.printing import print_json, say, say_error, wants_json
from rlm.core.documents import IdleStatus, Record, RunStatus
from rlm.core.documents import View as Shown
from rlm.core.errors import StoreError
from rlm.core.run import State

if TYPE_CHECKING:
    from rlm.ledger.store import Store
    from rlm.terminal.live import View


def show_run(document: Shown | IdleStatus) -> None:
    """Print a status or record: as JSON, or as a picture, which is plain text in a pipe."""
    print_json(document)
    if not wants_json() and not isinstance(document, IdleStatus):
        from rlm.terminal.live import console_on
        from rlm.terminal.runs import picture_of

        console_on(sys.stdout).print(picture_of(document))


def tell(record: Record, *, waited: bool = False) -> None:
    """Print a record; raise SystemExit if the run failed, or if it `waited` and every call of it failed."""
    show_run(record)
    if waited and record.every_call_failed:
        say_error(f"every call of run {record.run_id} failed: {record.failures}")
    elif record.state == State.FAILED:
        say_error(f"run {record.run_id} failed: {record.failure}")
    else:
        return
    raise SystemExit(int(ExitCode.FAILED))


def beside(store: Store, document: Shown | IdleStatus) -> Shown | IdleStatus:
    """Add what people see beside a status between two runs, and programs do not."""
    return report.at_rest(store, document) if isinstance(document, IdleStatus) and not wants_json() else document


def follow_status(store: Store, run_id: str | None) -> None:
    """Show the status each second until the named run is closed or a signal comes, else from run to run."""
    from rlm.admin.words import line
    from rlm.terminal.live import View
    from rlm.terminal.runs import picture_of

    def look() -> Shown | IdleStatus:
        return beside(store, report.status(store, run_id, measured=wants_json()))

    view = View(sys.stdout, picture_of, line, as_json=wants_json())
    watch(look, view, 1.0, lambda document: run_id is not None and not isinstance(document, RunStatus))


def detached(run_id: str) -> str:
    """Return the message of a command that does not wait for the end of a run any more."""
    return f"Run {run_id} goes on; `rlm status` shows it, `rlm cancel` ends it."


def watch(
    look: Callable[[], Any], view: View, interval: float, is_last: Callable[[Any], bool] = lambda _document: False
) -> None:
    """Show the result of `look` every `interval` seconds, until the last one, or a signal."""
    with stop_signals() as stop, view:
        while not stop.graceful:
            try:
                document = look()
            except StoreError as error:
                view.trouble(str(error))
            else:
                view.show(document)
                if is_last(document):
                    return
            stop.wakeup.wait(interval)
    say("This view has ended; RLM goes on. `rlm status` shows how it is.")
