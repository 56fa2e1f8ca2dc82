"""What may be sent to Sentry: ids, numbers and places in the code, one event per cause, never a payload."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from functools import partial
from typing import ClassVar

import pytest
import sentry_sdk
from sentry_sdk.integrations.logging import EventHandler
from sentry_sdk.transport import Transport

from rlm import telemetry
from rlm.settings.secrets import Secrets, remember
from rlm.telemetry import sentry
from rlm.telemetry.sentry import _strip
from tests.clocks import SetClock
from tests.each import each

#: What no event may show, wherever it stood.
PAYLOAD = "wallet-of-alice"


def record_of(message, *args, level=logging.ERROR, exc_info=None, **facts):
    record = logging.LogRecord("rlm.delivery.lane", level, "lane.py", 1, message, args, exc_info)
    vars(record).update(facts)
    return record


def event_with(**fields):
    return {"event_id": "0" * 32, "level": "error", "logger": "rlm.delivery.lane", "platform": "python", **fields}


@pytest.fixture
def clock(monkeypatch):
    clock = SetClock(0.0)
    monkeypatch.setattr(sentry, "_sent_at", {})
    monkeypatch.setattr(sentry, "system_clock", clock)
    return clock


class Outbox(Transport):
    """Keeps the events instead of sending them."""

    sent: ClassVar[list] = []

    def capture_envelope(self, envelope):
        self.sent.append(envelope.get_event())


@pytest.fixture
def sent(monkeypatch):
    """The events that leave."""
    monkeypatch.setattr(Outbox, "sent", [])
    return Outbox.sent


@pytest.fixture
def reporter(clock, monkeypatch):
    """What Sentry's integration does with each record, in a process that is set up as a worker."""
    monkeypatch.setattr(sentry.sentry_sdk, "init", partial(sentry_sdk.init, transport=Outbox))
    with sentry_sdk.isolation_scope():
        sentry.set_up("https://key@127.0.0.1/1", "worker")
        yield EventHandler(logging.ERROR)
    sentry_sdk.get_global_scope().clear()
    sentry_sdk.get_global_scope().set_client(None)


# -- what an event says


@pytest.mark.parametrize("name", ["lib", "dramatiq.worker"])
def test_a_library_that_put_the_values_in_itself_is_named_by_its_place(reporter, sent, name):
    """Its message may be made of anything: neither its words leave nor those of an exception in its place."""
    for message in (f"bad {PAYLOAD}", ValueError(f"bad {PAYLOAD}")):
        record = record_of(message)
        record.name = name
        reporter.handle(record)

    assert [event["logentry"]["message"] for event in sent] == [f"{name}, line 1", "ValueError"]
    assert PAYLOAD not in json.dumps(sent)


@each("key", ["breadcrumbs", "contexts", "extra", "request", "user", "modules", "threads", "spans"])
def test_what_is_not_allowed_by_name_is_taken_out(key):
    """Wherever a new version of the SDK may put something, it stays here."""
    kept = _strip(event_with(**{key: {"data": PAYLOAD}}), {})

    assert key not in kept
    assert PAYLOAD not in json.dumps(kept)


def test_known_secrets_are_masked_wherever_they_stand():
    """In tags, numbers' names, a place in the code: what is sent passes the masking of the log."""
    remember(Secrets(["hunter2"]))
    try:
        kept = _strip({"tags": {"endpoint": "hunter2"}, "fingerprint": ["hunter2"], "transaction": "at hunter2"}, {})
    finally:
        remember(Secrets())

    assert kept == {"tags": {"endpoint": "***"}, "fingerprint": ["***"], "transaction": "at ***"}


# -- one issue a cause


def test_a_condition_is_one_issue_by_code_and_subject(reporter, sent):
    """In whatever words, whoever found it; its title is what the code means, without a subject or a number."""
    facts = {"condition": "no_endpoint", "subject": "T", "headline": "no endpoint of a type works"}
    reporter.handle(record_of("No endpoint of T works, and 7 wait", **facts))
    reporter.handle(record_of("No endpoint of T works, and 9 wait", **facts))
    reporter.handle(record_of("No endpoint of U works", **facts | {"subject": "U"}))

    assert [event["fingerprint"] for event in sent] == [["rlm", "no_endpoint", "T"], ["rlm", "no_endpoint", "U"]]
    assert {event["logentry"]["message"] for event in sent} == {"no endpoint of a type works"}
    assert sent[0]["tags"] == {"role": "worker", "condition": "no_endpoint", "subject": "T"}


def test_a_storm_is_one_event_a_minute(reporter, sent, clock):
    """A thousand errors of one cause, and one of another: two events; a minute later the next."""
    for number in range(1000):
        reporter.handle(record_of("Event %s could not be carried", f"i{number}:T"))
    reporter.handle(record_of("Something else"))
    assert len(sent) == 2

    clock.time = 60.0
    reporter.handle(record_of("Event %s could not be carried", "i1000:T"))

    assert len(sent) == 3


# -- setting up


def test_without_a_dsn_the_sdk_is_not_even_imported():
    """No DSN, no SDK: nothing is sent, nothing is loaded, and a tick is just its work."""
    code = (
        "import sys, scheduler.service, actors.worker\n"
        "from rlm import telemetry\nfrom rlm.settings import load_settings\n"
        "settings = load_settings(None)\ntelemetry.set_up(settings, 'scheduler')\n"
        "telemetry.tick(settings, 0.0)\n"
        "telemetry.tick(settings, 0.0, ok=True, seconds=0.0)\ntelemetry.flush()\n"
        "print('sentry_sdk' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)

    assert done.stdout == "False\n"


# -- the tick as a monitor


@pytest.mark.parametrize("ok", [True, False])
def test_whoever_finishes_the_run_ends_the_check_in_that_another_began(monkeypatch, make_settings, ok):
    """The id is made from the moment the tick was due, so that the successor of a killed scheduler knows it."""
    sent = []
    monkeypatch.setattr(sentry, "capture_checkin", lambda **fields: sent.append(fields))
    due = 1_800_000_000.0

    telemetry.tick(make_settings(), due)
    telemetry.tick(make_settings(), due, ok=ok, seconds=3.5)
    telemetry.tick(make_settings(), due + 180)

    assert [one["status"] for one in sent] == ["in_progress", "ok" if ok else "error", "in_progress"]
    assert [one["duration"] for one in sent] == [None, 3.5, None]  # by the clock of Redis, whatever this host's says
    first, second, other = (one["check_in_id"] for one in sent)
    assert first == second != other


@pytest.fixture
def make_settings():
    from rlm.settings import load_settings

    return lambda: load_settings(None, {"SENTRY_DSN": "https://key@h/1"})
