"""`rlm web`: counters that agree with the records despite kills, health, who may read, how it starts and ends."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rlm.ledger.store import Store
from rlm.settings import load_settings
from tests.acceptance.webprocess import HTTP, port_of, read, scheduler_alive, web
from tests.conftest import running_server
from tests.wait import wait_until

pytestmark = pytest.mark.rest

TOKEN = "a-token-of-24-characters"


def scrape(port):
    """Return what Prometheus would store: each series and its number."""
    page = read(port)
    assert page.status == 200
    families = text_string_to_metric_families(page.data.decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
        if family.type in {"counter", "histogram"} or family.name == "rlm_up"
    }


def value(scraped, name, **labels):
    return scraped[name, frozenset(labels.items())]


class Watch(threading.Thread):
    """Scrapes repeatedly, and records each number that decreased."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.fallen, self.looks, self.done = port, [], 0, threading.Event()
        self.made = 0.0  #: the most that living workers had completed

    def run(self):
        seen = {}
        while not self.done.wait(0.1):
            now = scrape(self.port)
            # What a worker has completed goes with it.
            gone = {series for series in seen if series[0] == "rlm_worker_completed_total" and series not in now}
            self.fallen += [one for one, number in seen.items() if now.get(one, 0) < number and one not in gone]
            made = sum(number for (name, _), number in now.items() if name == "rlm_worker_completed_total")
            seen, self.looks, self.made = now, self.looks + 1, max(self.made, made)

    def stop(self):
        self.done.set()
        self.join(20)


def test_counters_agree_with_the_records_after_a_run_with_two_kills(make_system):
    """To the event and the call, over two runs, with API errors; no number ever goes back, nor with a new process."""
    with make_system(speed=25, env={"RLM_RUN__WINDOW_SECONDS": "60", "RLM_WORKERS__MIN": "1"}) as system:
        system.start("web")
        system.start_both()
        port = port_of(lambda: system.log("web"))
        for name in system.settings.endpoints:
            system.api.set_fault(name, error_rate=0.05)
        events = system.push_evenly(160)
        watch = Watch(port)
        watch.start()

        run_id = system.ask_for_run()
        killed = set()
        for number in (1, 2):
            wait_until(lambda number=number: len(system.api.arrivals) > 30 * number, timeout=30)
            # One that was killed is in the register until its death is noticed.
            pid = wait_until(lambda: set(system.workers()) - killed, timeout=30, message="one is ready").pop()
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        records = [system.await_record(run_id)]
        events += system.push_evenly(30, prefix="second")
        records.append(system.await_record(system.ask_for_run()))
        wait_until(lambda: watch.made > 0, timeout=10, message="a worker says what it has completed")
        watch.stop()
        system.stop("web")
        now = scrape_anew(system)

        assert watch.looks > 5
        assert watch.fallen == []
        assert_agree(now, records)
        assert 0 < watch.made <= sum(one["counts"]["completed"] for one in records)
        assert value(now, "rlm_worker_restarts_total") == sum(one["workers"]["restarted"] for one in records) == 2
        states = Counter(one["state"] for one in records)
        for state in ("completed", "partial", "cancelled", "failed"):
            assert value(now, "rlm_runs_total", state=state) == states[state]
        system.assert_promises(events, records)


def scrape_anew(system):
    """Start another process and scrape it."""
    (system.directory / "web.log").unlink()
    system.start("web")
    return scrape(port_of(lambda: system.log("web")))


def assert_agree(scraped, records):
    """Check that each counter is the sum over the records."""
    for name in records[0]["by_type"]:
        for outcome in ("taken", "carried_over", "completed", "failed", "leftover"):
            expected = sum(one["by_type"][name][outcome] for one in records)
            assert value(scraped, "rlm_events_total", type=name, outcome=outcome) == expected, (name, outcome)
    for name in records[0]["by_endpoint"]:
        for answer, key in (("completed", "completed"), ("throttled", "throttled"), ("error", "errors")):
            expected = sum(one["by_endpoint"][name][key] for one in records)
            assert value(scraped, "rlm_calls_total", endpoint=name, answer=answer) == expected, (name, answer)
        completed = value(scraped, "rlm_calls_total", endpoint=name, answer="completed")
        assert value(scraped, "rlm_call_duration_seconds_count", endpoint=name) == completed
        assert (value(scraped, "rlm_call_duration_seconds_sum", endpoint=name) > 0) == (completed > 0)
    assert value(scraped, "rlm_invalid_items_total") == sum(one["counts"]["invalid"] for one in records)
    assert sum(one["by_endpoint"][name]["errors"] for one in records for name in one["by_endpoint"]) > 0


def test_says_that_redis_is_away_and_never_an_old_number(tmp_path, monkeypatch):
    """503 and `rlm_up 0`, alone; when it is back, all is as it was, without a restart."""
    monkeypatch.chdir(tmp_path)
    with (
        running_server("valkey", tmp_path / "server") as url,
        web(tmp_path, f"{url}?socket_timeout=0.3") as (process, port),
    ):
        assert (read(port, "/healthz").status, read(port, "/healthz").data[:12]) == (503, b"no scheduler")
        with scheduler_alive(tmp_path, url):
            assert (read(port, "/healthz").status, read(port, "/healthz").data) == (200, b"ok\n")
        running = int(re.search(r"process_id:(\d+)", info(url))[1])

        os.kill(running, signal.SIGSTOP)  # it neither answers nor closes
        try:
            health, page = read(port, "/healthz"), read(port)
        finally:
            os.kill(running, signal.SIGCONT)

        assert (health.status, b"Redis does not answer" in health.data) == (503, True)
        assert re.findall(rb"^(rlm_\w+)\S* (\S+)$", page.data, re.MULTILINE) == [
            (b"rlm_up", b"0.0"),
            (b"rlm_build_info", b"1.0"),
        ]
        assert value(scrape(port), "rlm_up") == 1
        assert process.poll() is None


def info(url):
    with Store(load_settings(None, {"REDIS_URL": url}), keeps_server=True) as store:
        return f"process_id:{store.client.info('server')['process_id']}"


def test_the_token_is_in_no_output(tmp_path, valkey_only_url):
    """In no answer, no log line, no title."""
    with web(tmp_path, valkey_only_url, RLM_WEB__TOKEN="env:OURS", OURS=TOKEN) as (process, port):
        answers = [read(port, path, **headers) for path in ("/", "/metrics") for headers in ({}, bearer(TOKEN[:-1]))]
        good = [read(port, path, **bearer(TOKEN)) for path in ("/", "/metrics")]
        title = Path(f"/proc/{process.pid}/cmdline").read_bytes()

        assert [one.status for one in (*answers, *good)] == [401] * 4 + [200] * 2
        assert answers[0].headers["WWW-Authenticate"].startswith("Bearer")
        assert good[1].headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert read(port, "/metrics", Connection="Upgrade", Upgrade="websocket").status == 401
        posted = HTTP.request("POST", f"http://127.0.0.1:{port}/metrics", headers=bearer(TOKEN))
        assert (posted.status, set(posted.headers["Allow"].split(", "))) == (405, {"GET", "HEAD"})
        told = [*(one.data for one in (*answers, *good)), title, (tmp_path / "web.log").read_bytes()]
        assert not any(TOKEN.encode() in one for one in told)
        assert len((tmp_path / "web.log").read_text().splitlines()) == 2  # with what it serves; nobody can fill it


def bearer(token):
    return {"Authorization": f"Bearer {token}"}
