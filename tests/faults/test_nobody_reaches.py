"""An endpoint that the only host cannot call: every view says why, and events spend attempts if it is to blame.

A refused certificate is the endpoint's fault, on any host. A missing route is the host's fault: its events wait.
"""

from __future__ import annotations

import json
import ssl

import pytest

from tests.acceptance.scripted import Peer, Server
from tests.acceptance.system import make_item
from tests.acceptance.tlsserver import make_ca, program
from tests.values import as_json
from tests.wait import wait_until

pytestmark = pytest.mark.long

#: What the only host cannot call, beside what it can.
ILL, WELL = "ILL", "WELL"
EVENTS = 5
RUNS = 3
DOCUMENT = "".join(
    f'[types.{name}]\nprocessing_seconds = 0.5\nrate_limit = "300/minute"\n'
    f'endpoints = [{{ name = "{name.lower()}", url = "http://h/{name}" }}]\n'
    for name in (ILL, WELL)
)
ENV = {"RLM_WORKERS__MIN": "1", "RLM_RUN__WINDOW_SECONDS": "6", "RLM_RETRY__MAX_ATTEMPTS": "1"}
#: Two runs are all that an event is tried in.
TWO_RUNS = {"RLM_RETRY__MAX_RUNS": "2"}
#: A group of receivers: no kernel has a route there for TCP.
NO_ROUTE = "http://224.0.0.1:9"


@pytest.fixture
def self_signed(tmp_path):
    """The base URL of a server with a self-signed certificate."""
    certificate = make_ca(program("openssl"), tmp_path, "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))

    def over_tls(peer):
        with context.wrap_socket(peer.sock, server_side=True) as peer.sock:
            Peer.until_closed(peer)

    with Server(over_tls) as server:
        yield f"https://localhost:{server.port}"


def start(system, base):
    """Start a system whose endpoint `ill` is at `base`, with events for both; return the ids of those for it."""
    config = system.config.read_text()
    assert f"{system.api.url}/ill" in config
    system.config.write_text(config.replace(f"{system.api.url}/ill", f"{base}/ill"))
    system.start_both()
    wait_until(system.workers, timeout=30, message="a worker is ready")
    events = system.push([make_item(f"e{number}", ILL) for number in range(EVENTS)])
    system.push([make_item(f"w{number}", WELL) for number in range(EVENTS)])
    return events


def ask(system, *command):
    return json.loads(system.rlm(*command, "--json").stdout)


def run_on(system):
    """Make a run; return its record, and its last status with a forecast, if there was one."""
    run_id, seen = system.ask_for_run(), []

    def closed():
        if (found := ask(system, "status")).get("forecast") and found["run_id"] == run_id:
            seen.append(found)
        return as_json(system.store.runs.record(run_id))

    record = wait_until(closed, timeout=30, message=f"run {run_id} is closed")
    return record, seen[-1] if seen else None


def assert_said(system, event, health_reason):
    """Check that plan, list and explanation between two runs say why the events wait."""
    plan, (ill, well) = ask(system, "plan"), ask(system, "endpoint", "list")
    explained = ask(system, "explain", event)

    assert not plan["fits"]
    assert plan["expected_leftover"] == plan["by_type"][ILL]["expected_leftover"] > 0
    assert (ill["health"] in {"resting", "probing"}, ill["circuit_reason"]) == (True, health_reason)
    assert (well["health"], well["circuit_reason"]) == ("ok", None)
    assert health_reason in explained["sentence"]
    assert [one["reason"] for one in explained["endpoints"]] == [health_reason]


def test_a_refused_certificate_is_the_endpoint_s_and_its_events_become_letters(make_system, self_signed):
    """With one host alone too: it rests by the breaker, and its events have so many attempts and no more."""
    reason = "failing: TLS certificate refused"
    with make_system(document=DOCUMENT, env=ENV | TWO_RUNS) as system:
        events = start(system, self_signed)
        records = []
        for number in range(RUNS):
            record, status = run_on(system)
            records.append(record)
            if record["by_type"][ILL]["leftover"]:
                assert_said(system, max(system.pending()), reason)
            if number and status:  # a run is over at once if no probe may go before its deadline
                assert status["by_endpoint"]["ill"]["circuit_reason"] == reason
                assert status["forecast"]["expected_leftover"] > 0
            if number == 0:
                assert ask(system, "explain", events[0])["runs_spent"] == 1
            assert {one["what"] for one in record["troubles"]} == {"TLS certificate refused"}
        called = [record["by_endpoint"]["ill"] for record in records]
        letters = system.letters()

        assert called[0]["calls"] == called[0]["errors"] == EVENTS
        assert records[0]["counts"]["completed"] == EVENTS
        assert records[1]["plan"]["expected_leftover"] == EVENTS
        assert {one["reason"] for one in letters} == {"attempts_spent"}
        assert all("certificate" in one["detail"] for one in letters)
        assert len(letters) == sum(one["calls"] for one in called[1:]) > 0
        system.assert_promises(events, records)


def test_what_no_host_has_a_route_to_is_said_everywhere_and_its_events_wait(make_system):
    """Nothing counts on it, every face says that no host reaches it, and no attempt is spent."""
    reason = "no host reaches it: not reachable"
    with make_system(document=DOCUMENT, env=ENV | TWO_RUNS) as system:
        events = start(system, NO_ROUTE)
        records = []
        for number in range(RUNS):
            record, status = run_on(system)
            records.append(record)
            if number == 0 or status:  # as above; the first lasts as long as the first probes
                assert status["by_endpoint"]["ill"]["circuit_reason"] == reason
                assert status["forecast"]["expected_leftover"] == EVENTS
            assert_said(system, events[-1], reason)
            assert record["by_type"][ILL]["leftover"] == EVENTS
            (why,) = record["why"]
            assert (why["cause"], why["sentence"]) == ("unreached", "5 events left over: no host reached ill")
            assert ("ill", "not reachable") in [(one["endpoint"], one["what"]) for one in record["troubles"]]
        last = ask(system, "explain", events[0])

        assert records[-1]["plan"]["expected_leftover"] == EVENTS
        assert records[-1]["by_endpoint"]["ill"]["calls"] == 0
        assert last["runs_spent"] == 0
        assert system.letters() == []
        told = " ".join(system.rlm("result").stdout.split())
        assert "no host reaches ill at 224.0.0.1:9: not reachable" in told.lower()
        system.assert_promises(events, records)
