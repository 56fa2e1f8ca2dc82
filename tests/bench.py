"""An installation on a real server with a strict API and an open run, for tests without a conductor."""

from __future__ import annotations

import json
import threading
from uuid import uuid4

from rlm.core.item import type_of
from rlm.core.run import Trigger, new_run
from rlm.delivery.http import Connections
from rlm.delivery.lane import Lanes
from rlm.ledger.store import Store
from rlm.settings import load_settings
from tests.acceptance.faultyapi import FaultyApi, exceeded
from tests.store.windows import stamps
from tests.values import replace
from tests.wait import wait_until

TYPE = "T"
FIRST, SECOND = "first", "second"

CONFIGURATION = """
[redis]
url = "{url}"
prefix = "{prefix}"
[queue]
events = "audit-{prefix}"
processing = "staging-{prefix}"
failed = "letters-{prefix}"
[run]
window_seconds = {window}
every_seconds = {window}
guard_seconds = {guard}
[retry]
max_attempts = {max_attempts}
max_runs = {max_runs}
timeout_seconds = {timeout}
[types.{type}]
priority = 5
processing_seconds = {processing}
rate_limit = "{limit}"
endpoints = [{endpoints}]
"""
#: A long guard: on a busy machine a slot may take long, and with a short guard it would be returned as too late.
DEFAULTS = {
    "window": 30.0,
    "guard": 1.0,
    "max_attempts": 3,
    "max_runs": 5,
    "timeout": 2.0,
    "processing": 0.02,
    "limit": "100 per 1 second",
}


class Bench:
    """An installation of one type with two endpoints, an open run, and the lanes of one worker."""

    def __init__(self, url, directory, **options):
        self.options = {**DEFAULTS, **options}
        self.url = url
        self.prefix = f"t{uuid4().hex[:8]}"
        self.config = directory / f"{self.prefix}.toml"
        self.api = FaultyApi(self.load("http://127.0.0.1:1").event_types)

    def load(self, base):
        endpoints = ", ".join(f'{{name = "{name}", url = "{base}/{name}"}}' for name in (FIRST, SECOND))
        facts = {**self.options, "url": self.url, "prefix": self.prefix, "type": TYPE, "endpoints": endpoints}
        self.config.write_text(CONFIGURATION.format(**facts))
        return load_settings(self.config, {})

    def __enter__(self):
        self.api.start()
        self.settings = self.load(self.api.url)
        self.stores = []
        self.store = self.open_store(self.settings)
        self.token = self.store.leases.contend("bench", 3600).token
        self.connections = Connections()
        self.lanes = self.make_lanes("w1")
        self.runs = 0
        self.open_run()
        return self

    def __exit__(self, *_exc):
        self.connections.close()
        for key in self.store.client.scan_iter(match=f"*{self.prefix}*", count=1000):
            self.store.client.delete(key)
        for store in self.stores:
            store.client.close()
        self.api.stop()

    def make_lanes(self, worker_id, **changes):
        store = self.open_store(replace(self.settings, **changes)) if changes else self.store
        return Lanes(store, self.connections, worker_id, len)

    def open_store(self, settings):
        self.stores.append(Store(settings, self.url))
        return self.stores[-1]

    # -- what a conductor does

    def open_run(self, window=None):
        """Open the next run for the pending events, and plan it."""
        window = self.options["window"] if window is None else window
        self.runs += 1
        run = new_run(Trigger.MANUAL, self.store.now(), window, self.settings.revision)
        self.run_id = self.store.runs.open(self.token, replace(run, id=f"run-{self.runs}"), [TYPE])
        self.store.rules.publish(self.token, self.settings.event_types, {})
        assert self.store.runs.start(self.token, self.run_id, draining=1)  # else it ends when it is empty

    def take(self, number=1, **fields):
        """Push items and drain them into the ledger; return their event ids."""
        ids = [f"item-{uuid4().hex[:12]}" for _ in range(number)]
        raw = [json.dumps({"id": one, "wallet_name": "w", "events": [TYPE], **fields}).encode() for one in ids]
        self.store.intake.push(raw)
        self.store.client.hdel(self.store.keys.run, "staged")
        assert sum(self.store.intake.drain(self.token, self.run_id, {TYPE: 5})) == number
        return [f"{one}:{TYPE}" for one in ids]

    def carry(self, lanes=1, until=None):
        """Have `lanes` lanes carry events until nothing is ready or in flight, or `until` returns something."""
        threads = [threading.Thread(target=self.lanes.carry, daemon=True) for _ in range(lanes)]
        for thread in threads:
            thread.start()
        try:
            wait_until(until or self.is_calm, message="the lanes are done")
        finally:
            self.lanes.gate.stop()
            for thread in threads:
                thread.join(10)
            self.lanes = self.make_lanes("w1")

    def is_calm(self):
        counts = self.counts()
        return not counts.pending and not counts.inflight

    def redirect(self, name, url):
        """Give an endpoint another address, for this worker."""
        self.change_endpoints(lambda one: replace(one, url=url) if one.name == name else one)

    def change_endpoints(self, change):
        """Apply `change` to the endpoints, for this worker: as for a new worker with another file."""
        (event_type,) = self.settings.event_types
        endpoints = tuple(map(change, event_type.endpoints))
        self.settings = replace(
            self.settings,
            event_types=(replace(event_type, endpoints=endpoints),),
            endpoints={one.name: one for one in endpoints},
        )
        self.store = self.open_store(self.settings)
        self.lanes = self.make_lanes("w1")

    # -- what there is to see

    def counts(self):
        return self.store.ledger.count([TYPE])[TYPE]

    def where(self):
        """Return where the events are, by the names of non-empty places."""
        counts = self.counts()
        places = {name: getattr(counts, name) for name in ("pending", "inflight", "backing_off", "spent")}
        return {name: number for name, number in places.items() if number}

    def tally(self):
        return {name: number for name, number in self.store.runs.tally().items() if number}

    def event(self, event_id):
        found = self.store.client.hgetall(self.store.keys.event(event_id))
        return {name.decode(): value.decode() for name, value in found.items()}

    def letters(self):
        return [json.loads(raw) for raw in self.store.letters.all()]

    def calls(self):
        """The calls that arrived: endpoint, attempt, status."""
        return [(one.endpoint, one.attempt, one.status) for one in self.api.arrivals]

    def stamps(self, name=FIRST):
        return stamps(self.store, self.settings.endpoints[name])

    def now_us(self):
        return self.store.windows.look(())[0]

    def check(self):
        """Check what must hold at any instant at which no lane works."""
        tally, counts = self.tally(), self.counts()
        entered = tally.get(f"taken:{TYPE}", 0) + tally.get(f"carried:{TYPE}", 0)
        settled = tally.get(f"completed:{TYPE}", 0) + tally.get(f"failed:{TYPE}", 0)
        assert entered == settled + counts.unsettled, "the books balance: nothing lost, nothing doubled"
        assert counts.inflight == 0, "nobody holds anything"
        held = [self.store.client.hvals(key) for key in self.store.client.scan_iter(match=self.store.keys.held("*"))]
        assert all(b" " not in one for lanes in held for one in lanes), "no call is noted that has ended"
        arrivals = self.api.arrivals
        assert list(exceeded(arrivals, self.settings.endpoints.values())) == [], "no limit is exceeded"
        for name in self.settings.endpoints:
            mine = [one for one in arrivals if one.endpoint == name]
            answered = sum(tally.get(f"{what}:{name}", 0) for what in ("delivered", "throttled", "errors"))
            assert answered == len(mine), "each call that arrived is counted, and no other"
        by_event = {one.event_id: [] for one in arrivals}
        for one in arrivals:
            by_event[one.event_id].append(one.attempt)
        for event_id, attempts in by_event.items():
            assert type_of(event_id) == TYPE, "the key is the event's"
            assert attempts == sorted(attempts), "attempts only grow"
