"""What is really sent to Sentry: processes with a DSN, and a server on loopback that receives their envelopes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from rlm import __version__
from rlm.core.clock import system_clock
from rlm.core.errors import StoreError
from rlm.telemetry import FLUSH_SECONDS
from rlm.telemetry.logs import KEYS
from tests.acceptance.system import make_item
from tests.bench import Bench
from tests.faults.proxy import Proxy
from tests.ingest import Ingest
from tests.values import as_json
from tests.wait import wait_until

pytestmark = pytest.mark.rest

ROOT = Path(__file__).parents[2]
#: What no envelope may hold, wherever.
PAYLOAD = "wallet-of-alice"
TOKEN = "token-of-the-api"


@pytest.fixture
def ingest():
    with Ingest() as ingest:
        yield ingest


# -- one run with everything that may happen to it


class HeadsProxy(Proxy):
    """Records the heads of requests on their way to the API."""

    heads = b""

    async def write(self, writer, data):
        self.heads += data.partition(b"\r\n\r\n")[0].lower()
        await super().write(writer, data)


def every_seconds_due_in(seconds):
    """Return a period of about an hour whose next tick on the wall clock comes in `seconds`."""
    due = system_clock.now() + seconds
    return due / round(due / 3600)


def still(what):
    """Call `what`; return None while Redis is away."""
    try:
        return what()
    except StoreError:
        return None


@pytest.fixture
def proxies():
    """Proxies that are closed at the end."""
    made = []
    yield made
    for proxy in made:
        proxy.__exit__()


def live_through(make_system, ingest, proxies, *, events, window_seconds, seed_faults):
    """Let a tick open a run, its API fail, its workers and its Redis die; return the system and the run's record."""

    def front(url):
        proxies.append(HeadsProxy(urlsplit(url).port).__enter__())
        return f"http://127.0.0.1:{proxies[0].port}"

    env = {
        "SENTRY_DSN": ingest.dsn,
        "SENTRY_ENVIRONMENT": "staging",
        "SENTRY_RELEASE": "shop@7",
        "API_TOKEN": TOKEN,
        "RLM_RUN__EVERY_SECONDS": str(every_seconds_due_in(5)),
        "RLM_RUN__WINDOW_SECONDS": str(window_seconds),
        "RLM_WORKERS__MIN": "4",  # there before the tick, so that all happens in its window on a busy machine, too
        "RLM_ALARM__FAILED": "2",
        "RLM_LOG_FORMAT": "json",
    }
    made = make_system(env=env, ticks=True, front=front)
    system = made.__enter__()
    try:
        system.store.schedule.note_tick(system_clock.now())  # a scheduler that comes up late serves the next
        text, headers = system.config.read_text(), 'headers = { Authorization = "env:API_TOKEN" }'
        system.config.write_text(text.replace('"name" = ', f'{headers}, "name" = '))
        types = system.types
        system.push(
            make_item(f"e{number}", types[number % len(types)], wallet_name=PAYLOAD, note=PAYLOAD)
            for number in range(events)
        )
        system.push(make_item(f"u{number}", "UNKNOWN", wallet_name=PAYLOAD) for number in range(3))
        system.api.set_fault("*", error_rate=0.05)
        system.api.set_fault("rebalance_api", down=True)
        system.start_both()
        run = wait_until(system.store.runs.current, timeout=20, message="the tick has opened a run")
        seed_faults(system)
        return made, system, wait_until(lambda: still(lambda: as_json(system.store.runs.record(run.id))), timeout=90)
    except BaseException:
        made.__exit__(None, None, None)
        raise


def kill_a_worker(system, killed):
    """Kill a ready worker; Redis still knows those `killed` before for a moment."""
    pid = wait_until(lambda: set(still(system.workers) or ()) - killed, timeout=30, message="a worker is ready").pop()
    os.kill(pid, signal.SIGKILL)
    killed.add(pid)


def two_kills_and_a_restart(system):
    """Kill two workers during their calls, and restart Redis."""
    killed: set[int] = set()
    for answered in (30, 60):
        wait_until(lambda: len(system.answered()) > answered, timeout=30)  # noqa: B023  # waited for here
        kill_a_worker(system, killed)
    wait_until(lambda: len(system.answered()) > 90, timeout=30)
    os.kill(system.store.client.info("server")["process_id"], signal.SIGTERM)


def assert_told_once_and_nothing_else(ingest, system, record, proxy):
    """Check: each condition that is an error is one issue; the tick checked in; no payload was sent."""
    wait_until(lambda: len(ingest.check_ins) == 2, message="the tick has checked in and out")
    wait_until(lambda: ingest.events, timeout=8, message="what is an error has arrived")
    system.stop("scheduler")
    system.stop("supervisor")

    conditions = {event["tags"]["condition"]: event for event in ingest.events}
    assert set(conditions) - {"redis_away"} == {"dead_letters"}  # what Redis took to restart depends on the machine
    assert set(ingest.issues) == {("rlm", code, event["tags"]["subject"]) for code, event in conditions.items()}
    assert {len(events) for events in ingest.issues.values()} == {1}
    assert {event["level"] for event in ingest.events} == {"error"}
    assert {event["environment"] for event in ingest.events} == {"staging"}
    assert {event["release"] for event in ingest.events} == {"shop@7"}
    assert conditions["dead_letters"]["logentry"]["message"] == "there are more dead letters than alarm.failed"
    assert conditions["dead_letters"]["tags"]["role"] == "scheduler"
    warned = {
        told["condition"] for line in system.log("scheduler").splitlines() if "condition" in (told := json.loads(line))
    }
    assert "dead_letters" in warned
    assert "hold_endpoints" in system.log("scheduler")  # for so short here that it is no condition for two looks

    began, ended = ingest.check_ins
    assert (began["status"], ended["status"]) == ("in_progress", "ok")
    assert began["check_in_id"] == ended["check_in_id"]
    assert began["monitor_slug"] == "rlm-tick"
    assert ended["duration"] == pytest.approx(record["duration_seconds"], abs=3)

    logs = system.log("scheduler") + system.log("supervisor")
    for secret in (PAYLOAD, TOKEN, "authorization"):
        assert secret.encode() not in ingest.everything.lower()
        assert secret not in logs
    assert ingest.dsn not in logs
    assert all(set(json.loads(line)) <= set(KEYS) for line in logs.splitlines())
    assert b"authorization" in proxy.heads
    assert b"sentry" not in proxy.heads
    assert b"baggage" not in proxy.heads


def test_a_run_with_every_trouble_is_one_issue_for_each_error(make_system, ingest, proxies):
    """5 % of calls fail, an endpoint is down, two workers die, Redis restarts, dead letters and leftovers remain."""
    made, system, record = live_through(
        make_system, ingest, proxies, events=1500, window_seconds=9, seed_faults=two_kills_and_a_restart
    )
    try:
        assert record["state"] == "partial"
        assert_told_once_and_nothing_else(ingest, system, record, proxies[0])
    finally:
        made.__exit__(None, None, None)


# -- single processes


def run(code, dsn, *args):
    """Run a process of RLM with telemetry; return its output."""
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
import os, threading
telemetry.set_up(load_settings(), "worker", "w1")
log = logging.getLogger("rlm.delivery.lane")
def carry(item):
    secret_local = item
    try:
        raise ValueError(f"cannot take {{item}}")
    except ValueError:
        facts = {{"action": "give_back", "run_id": "r1", "event_id": "i1:T", "item": item}}
        log.info("Event %s of %s is on its way", "i1:T", item, extra=facts)
        log.warning("Event %s of %s is late", "i1:T", item, extra=facts)
        log.exception("Event %s of %s could not be carried", "i1:T", item, extra=facts)
lane = threading.Thread(target=carry, args=("{PAYLOAD}",))
lane.start()
lane.join()
logging.getLogger("lib").error(ValueError("{PAYLOAD}"))
telemetry.flush()
os._exit(0)
"""


def test_an_error_is_one_envelope_with_ids_and_without_a_payload(ingest):
    """The error of a process that ends at once then arrives: tagged, its values left behind."""
    run(ONE_ERROR, ingest.dsn)
    wait_until(lambda: len(ingest.events) == 2, message="both have arrived")

    event, other = ingest.events
    assert ingest.paths == ["/api/42/envelope/"] * 2
    assert event["tags"] == {
        "role": "worker",
        "worker": "w1",
        "action": "give_back",
        "run_id": "r1",
        "event_id": "i1:T",
    }
    assert (event["level"], event["logger"], event["release"]) == ("error", "rlm.delivery.lane", f"rlm@{__version__}")
    assert event["environment"] == "production"
    assert event["logentry"]["message"] == "Event %s of %s could not be carried"
    (exception,) = event["exception"]["values"]
    assert (exception["type"], exception["value"]) == ("ValueError", "")
    assert exception["stacktrace"]["frames"][-1]["function"] == "carry"
    assert not [frame for frame in exception["stacktrace"]["frames"] if "vars" in frame]
    assert other["logentry"]["message"] == "ValueError"
    assert b"breadcrumbs" not in ingest.everything
    assert PAYLOAD.encode() not in ingest.everything


REFUSED = """
import threading, time
from pathlib import Path
from rlm.delivery.http import Connections
from rlm.delivery.lane import Lanes
from rlm.ledger.store import Store
settings = load_settings(Path(sys.argv[1]))
telemetry.set_up(settings, "worker")
with Store(settings, keeps_server=True) as store:
    lanes = Lanes(store, Connections(), "w1", print)
    lane = threading.Thread(target=lanes.carry)
    lane.start()
    time.sleep(1.5)
    lanes.gate.stop()
    lane.join()
    logging.getLogger("rlm.delivery.lane").error("The end")
"""


def test_limits_that_are_met_send_nothing(ingest, valkey_only_url, tmp_path):
    """A full window and a 429 are outcomes, not errors: of three events, none is told of."""
    with Bench(valkey_only_url, tmp_path, limit="1 per 60 second") as bench:
        bench.take(4)
        bench.api.set_fault("second", throttle=5)
        run(REFUSED, ingest.dsn, str(bench.config))

        assert sorted(status for _, _, status in bench.calls()) == [200, 429]
        assert bench.where() == {"pending": 3}
    wait_until(lambda: ingest.events, message="the end has arrived")
    assert [event["logentry"]["message"] for event in ingest.events] == ["The end"]


def test_a_sentry_that_is_down_harms_nobody():
    """Where nobody listens the process goes on and ends as it would have, soon."""
    done = run(ONE_ERROR, "http://public@127.0.0.1:9/42")

    assert "could not be carried" in done.stderr
    assert "Sentry is attempting" not in done.stderr


TOLD_AND_GONE = """
import atexit, time
atexit.register(lambda: print(time.monotonic() - ended))  # after all other exit handlers
settings = load_settings()
telemetry.set_up(settings, "scheduler")
began = time.monotonic()
telemetry.tick(settings, 0.0)
for number in range(300):
    logging.getLogger(f"rlm.part{number}").error("It does not work")
telemetry.tick(settings, 0.0, ok=False, seconds=1.0)
ended = time.monotonic()
print(ended - began)
"""


def test_a_sentry_that_never_answers_holds_nobody_up():
    """It takes the connection and is silent: nobody waits for it while there is work, and for a second in the end."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done = run(TOLD_AND_GONE, f"http://public@127.0.0.1:{silent.getsockname()[1]}/42")

    took, waited = map(float, done.stdout.split())
    assert took < 1.0  # for 302 of them
    assert waited < FLUSH_SECONDS + 0.5
