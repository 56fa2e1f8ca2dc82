"""What really leaves for Sentry: processes with a DSN, and an endpoint on loopback that takes their envelopes."""

from __future__ import annotations

import gzip
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rlm import __version__
from tests.bench import Bench
from tests.wait import wait_until

ROOT = Path(__file__).parents[2]
#: What no envelope may hold, wherever.
PAYLOAD = "wallet-of-alice"


class Sentry:
    """Takes envelopes as Sentry does, and keeps them."""

    def __init__(self):
        self.paths, self.bodies = [], []
        taken = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                taken.paths.append(self.path)
                taken.bodies.append(body)
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_args):
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.dsn = f"http://public@127.0.0.1:{self._server.server_port}/42"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def items(self, kind):
        """Return the items of a kind from all envelopes."""
        found = []
        for body in self.bodies:
            _envelope, *rest = body.split(b"\n")
            found += [
                json.loads(item)
                for header, item in zip(rest[::2], rest[1::2], strict=False)
                if header and json.loads(header)["type"] == kind
            ]
        return found

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_exc):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def sentry():
    with Sentry() as sentry:
        yield sentry


def run(code, dsn, *args):
    """Run a process of RLM's that has telemetry set up; return what it printed."""
    setting_up = "import logging, sys\nfrom rlm import telemetry\nfrom rlm.settings import load_settings\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{setting_up}{code}", *args],
        env={**os.environ, "SENTRY_DSN": dsn, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


ONE_ERROR = f"""
telemetry.set_up(load_settings(), "worker")
log = logging.getLogger("rlm.lane")
def carry(item):
    secret_local = item
    try:
        raise ValueError(f"cannot take {{item}}")
    except ValueError:
        facts = {{"action": "give_back", "run_id": "r1", "event_id": "i1:T", "item": item}}
        log.info("Event %s of %s is on its way", "i1:T", item, extra=facts)
        log.warning("Event %s of %s is late", "i1:T", item, extra=facts)
        log.exception("Event %s of %s could not be carried", "i1:T", item, extra=facts)
carry("{PAYLOAD}")
"""


def test_an_error_is_one_envelope_with_ids_and_without_a_payload(sentry):
    """The error of a process that ends just then arrives: once, tagged, its values left behind."""
    run(ONE_ERROR, sentry.dsn)
    wait_until(lambda: sentry.bodies, message="the envelope has arrived")

    (event,) = sentry.items("event")
    assert len(sentry.bodies) == 1
    assert sentry.paths == ["/api/42/envelope/"]
    assert event["tags"] == {"role": "worker", "action": "give_back", "run_id": "r1", "event_id": "i1:T"}
    assert (event["level"], event["logger"], event["release"]) == ("error", "rlm.lane", f"rlm@{__version__}")
    assert event["logentry"]["message"] == "Event %s of %s could not be carried"
    (exception,) = event["exception"]["values"]
    assert (exception["type"], exception["value"]) == ("ValueError", "")
    assert exception["stacktrace"]["frames"][-1]["function"] == "carry"
    assert not [frame for frame in exception["stacktrace"]["frames"] if "vars" in frame]
    everything = b"".join(sentry.bodies)
    assert b"breadcrumbs" not in everything
    assert PAYLOAD.encode() not in everything


def test_the_same_error_of_two_events_is_one_issue(sentry):
    """One cause, one fingerprint, however many events it hits."""
    run(ONE_ERROR, sentry.dsn)
    run(ONE_ERROR.replace("i1:T", "i2:T"), sentry.dsn)
    wait_until(lambda: len(sentry.bodies) == 2, message="both have arrived")

    first, second = sentry.items("event")
    assert first["tags"]["event_id"] != second["tags"]["event_id"]
    assert first["fingerprint"] == second["fingerprint"]


def test_a_message_that_is_an_exception_keeps_its_words(sentry):
    """A library that logs the exception itself as the message sends its type, not what it says."""
    run(
        f'telemetry.set_up(load_settings(), "worker")\nlogging.getLogger("lib").error(ValueError("{PAYLOAD}"))',
        sentry.dsn,
    )
    wait_until(lambda: sentry.bodies, message="the envelope has arrived")

    assert PAYLOAD.encode() not in b"".join(sentry.bodies)
    assert sentry.items("event")[0]["logentry"]["message"] == "ValueError"


TICK = """
telemetry.set_up(load_settings(), "scheduler")
from rlm.telemetry.sentry import monitored_tick
try:
    with monitored_tick(180.0, 180.0):
        if len(sys.argv) > 1:
            raise RuntimeError(sys.argv[1])
except RuntimeError:
    pass
"""


@pytest.mark.parametrize(("args", "end"), [((), "ok"), ((PAYLOAD,), "error")], ids=["good", "failed"])
def test_a_tick_checks_in_and_out(sentry, args, end):
    """The Crons monitor is told that a tick began and how it ended, and when to expect the next."""
    run(TICK, sentry.dsn, *args)
    wait_until(lambda: len(sentry.items("check_in")) == 2, message="both check-ins have arrived")

    began, ended = sorted(sentry.items("check_in"), key=lambda one: one["status"] != "in_progress")
    assert (began["status"], ended["status"]) == ("in_progress", end)
    assert began["check_in_id"] == ended["check_in_id"]
    assert began["monitor_slug"] == ended["monitor_slug"] == "rlm-tick"
    assert began["monitor_config"]["schedule"] == {"type": "interval", "value": 3, "unit": "minute"}
    assert began["monitor_config"]["max_runtime"] >= 3
    assert sentry.items("event") == []
    assert PAYLOAD.encode() not in b"".join(sentry.bodies)


REFUSED = """
from pathlib import Path
from rlm.dispatch import Dispatcher
from rlm.lane import Lanes
from rlm.settings import resolve_headers
from rlm.store import open_store
from rlm.store.ledger import Release
settings = load_settings(Path(sys.argv[1]))
telemetry.set_up(settings, "worker")
with open_store(settings) as store:
    lanes = Lanes(store, settings, Dispatcher(resolve_headers), "w1")
    for number, event_id in enumerate(sys.argv[3:]):
        lanes.carry(Release(event_id, sys.argv[2], 1))
    logging.getLogger("rlm.lane").error("The end")
"""


def test_limits_that_are_met_send_nothing(sentry, valkey_only_url, tmp_path):
    """A full window and a 429 are outcomes, not errors: of three events, none is told of."""
    with Bench(valkey_only_url, tmp_path, limit="1 per 60 second") as bench:
        bench.take(4)
        bench.api.set_fault("second", throttle=5)
        releases = bench.release(4)
        run(REFUSED, sentry.dsn, str(bench.config), bench.run_id, *(one.event_id for one in releases))

        assert sorted(status for _, _, status in bench.calls()) == [200, 429]
        assert bench.where() == {"pending": 3}
    wait_until(lambda: sentry.bodies, message="the end has arrived")
    assert [event["logentry"]["message"] for event in sentry.items("event")] == ["The end"]


def test_a_sentry_that_is_down_harms_nobody():
    """Where nobody listens the process goes on and ends as it would have, soon."""
    done = run(ONE_ERROR, "http://public@127.0.0.1:9/42")

    assert "could not be carried" in done.stderr
    assert "Sentry is attempting" not in done.stderr
