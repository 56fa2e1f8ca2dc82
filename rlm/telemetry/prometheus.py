"""The page that Prometheus reads: everything in it comes from the ledger at that moment, nothing from this process.

So it is the same whichever process serves it, right over all hosts, and goes on where it was when that process is
started again. prometheus-client writes the format, and no more.
"""

from __future__ import annotations

import logging
import platform
import threading
from typing import TYPE_CHECKING, Final

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.core import Metric as Family

from rlm import __version__
from rlm.core.clock import system_clock
from rlm.core.errors import StoreError
from rlm.ledger import revive
from rlm.telemetry.catalogue import METRICS
from rlm.telemetry.counters import Sample, counters
from rlm.telemetry.gauges import Gauges

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rlm.ledger import Store

#: What the page is said to be.
CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4

log = logging.getLogger(__name__)


class MetricsPage:
    """Writes the page of one store. One at a time is written, so that many who ask do not load Redis."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._gauges = Gauges(store)
        self._lock = threading.Lock()
        self._away = False

    def write(self) -> bytes:
        """Return the page. Where Redis does not answer all of it, that is said, and nothing else: no old number."""
        with self._lock:
            try:
                samples = [Sample("rlm_up", {}, 1), *self._look()]
            except StoreError as error:
                self._tell_once(error)
                revive(self._store)
                samples = [Sample("rlm_up", {}, 0)]
            else:
                self._tell_back()
        return expose([_build_info(), *samples])

    def _look(self) -> Iterator[Sample]:
        began_at = system_clock.monotonic()
        yield from self._gauges.look()
        yield from counters(self._store.settings, self._store.totals.look())
        yield Sample("rlm_collect_seconds", {}, system_clock.monotonic() - began_at)

    def _tell_once(self, error: StoreError) -> None:
        if not self._away:
            log.warning("The metrics cannot be read: %s", error, extra={"action": "metrics"})
        self._away = True

    def _tell_back(self) -> None:
        if self._away:
            log.info("The metrics can be read again", extra={"action": "metrics"})
        self._away = False


def _build_info() -> Sample:
    return Sample("rlm_build_info", {"version": __version__, "python": platform.python_version()}, 1)


def expose(samples: Iterable[Sample]) -> bytes:
    """Write samples in the text format, in the order of the catalogue. Only what stands there can be exposed."""
    families = {
        metric.name: Family(metric.name.removesuffix("_total"), metric.meaning, metric.kind) for metric in METRICS
    }
    for name, labels, value, suffix in samples:
        families[name].add_sample(name + suffix, dict(labels), value)
    return generate_latest(_Families([family for family in families.values() if family.samples]))


class _Families:
    """What `generate_latest` takes for a registry."""

    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> list[Family]:
        return self._families
