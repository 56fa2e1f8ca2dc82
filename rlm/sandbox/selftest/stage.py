"""What a self-test works with: a small configuration under a prefix of its own, a strict API, and the processes."""

from __future__ import annotations

import socket
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from rlm.core.clock import system_clock
from rlm.core.endpoint import all_limited
from rlm.ledger import Store
from rlm.ledger.selftests import SelfTest
from rlm.sandbox.configuration import selftest_document
from rlm.sandbox.demo.children import Children
from rlm.sandbox.demo.stage import Stage
from rlm.sandbox.mockapi import MockApi
from rlm.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rlm.processes.signals import StopSignals
    from rlm.sandbox.selftest.items import Batch
    from rlm.settings import Settings

_NOWHERE = "http://127.0.0.1:1"
#: How processes learn where Redis is: from no file, for the URL may hold a password.
_URL_VARIABLE = "REDIS_URL"


@contextmanager
def staged(
    settings: Settings, url: str, prefix: str, stop: StopSignals, options: Sequence[str] = ()
) -> Iterator[Stage]:
    """Build a small system like that of `settings` on the Redis at `url`; its processes are stopped at the end.

    Its keys are left to whoever made the prefix. The endpoints are those of the mock API and none else.
    """
    where = {_URL_VARIABLE: url}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="rlm-test-"))).resolve()
        config = directory / "rlm.toml"
        types = _write(config, selftest_document(settings, prefix, _NOWHERE), where).event_types
        api = stack.enter_context(MockApi(types))
        effective = _write(config, selftest_document(settings, prefix, api.url), where)
        store = Store(effective, url)
        stack.callback(store.close)
        children = Children(effective, config, stop, what="self-test", environ=where, options=options)
        stack.callback(children.stop)
        yield Stage(effective, api, store, children)


def _write(config: Path, document: str, environ: dict[str, str]) -> Settings:
    config.write_text(document)
    return load_settings(config, environ)


def noted(stage: Stage, batch: Batch) -> SelfTest:
    """Make the entry of this self-test for the register."""
    return SelfTest(
        started_at=system_clock.now(),
        host=socket.gethostname(),
        types=[one.name for one in stage.settings.event_types],
        windows=[one.window_id for one in all_limited(stage.settings.endpoints.values())],
        events=sorted(batch.events),
    )
