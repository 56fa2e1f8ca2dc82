"""What may be sent to Sentry: ids, numbers and places in the code, one event per cause, never a payload."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import sentry_sdk

from rlm import telemetry
from rlm.core.alarms import Alarm, alarm
from rlm.core.errors import ConfigurationError
from rlm.settings.secrets import Secrets, remember
from rlm.telemetry import sentry
from rlm.telemetry.logs import MOST_CAUSES, Bounded
from rlm.telemetry.sentry import ERRORS, Reporter, _strip, fingerprint_of, set_up
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


def raised():
    try:
        int(PAYLOAD)
    except ValueError:
        return sys.exc_info()


@pytest.fixture
def clock():
    return SetClock(0.0)


@pytest.fixture
def sent(monkeypatch):
    """The captured events, after the filter."""
    sent = []
    monkeypatch.setattr(sentry.sentry_sdk, "capture_event", lambda event: sent.append(_strip(event, {})))
    return sent


@pytest.fixture
def reporter(clock):
    return Reporter("worker", Bounded(60.0, clock))


# -- what an event says


def test_the_parameters_of_a_log_line_stay_here(reporter, sent):
    """The sentence leaves with an ellipsis for each value, so that it can still be read as a title."""
    reporter.handle(record_of("Event %s of %s failed after %.1f s, 5 %% late", "i1:T", PAYLOAD, 2.0))

    (event,) = sent
    assert event["logentry"]["formatted"] == "Event … of … failed after … s, 5 % late"
    assert PAYLOAD not in json.dumps(sent)


@pytest.mark.parametrize("name", ["lib", "dramatiq.worker"])
def test_a_library_that_put_the_values_in_itself_is_named_by_its_place(reporter, sent, name):
    """Its message may be made of anything: neither its words leave nor those of an exception in its place."""
    for message in (f"bad {PAYLOAD}", ValueError(f"bad {PAYLOAD}")):
        record = record_of(message)
        record.name = name
        reporter.handle(record)

    assert [event["logentry"]["message"] for event in sent] == [f"{name}, line 1", "ValueError"]
    assert PAYLOAD not in json.dumps(sent)


def test_ids_leave_as_tags_numbers_as_context_and_nothing_else(reporter, sent):
    """Which run, which event, which endpoint, what was done: enough to find it with `rlm explain`."""
    facts = {"run_id": "r1", "event_id": "i1:T", "endpoint": "api", "worker": "w1", "lane": 2, "item": PAYLOAD}

    reporter.handle(record_of("x", action="give_back", counts={"calls": 3, "wallet": PAYLOAD}, **facts))

    (event,) = sent
    assert event["tags"] == {
        "action": "give_back",
        "run_id": "r1",
        "event_id": "i1:T",
        "endpoint": "api",
        "lane": "2",
        "worker": "w1",
    }
    assert event["contexts"] == {"rlm": {"calls": 3, "left_out": 0}}
    assert event["transaction"] == "worker: give_back"
    assert PAYLOAD not in json.dumps(sent)


def test_the_words_of_an_exception_stay_here(reporter, sent):
    """Its type and its place in the code leave; its message may quote an item."""
    reporter.handle(record_of("x", exc_info=raised()))

    (exception,) = sent[0]["exception"]["values"]
    assert (exception["type"], exception["value"]) == ("ValueError", "")
    assert exception["stacktrace"]["frames"][-1]["function"] == "raised"
    assert PAYLOAD not in json.dumps(sent)


@each("key", ["breadcrumbs", "extra", "request", "user", "modules", "threads", "spans"])
def test_what_is_not_allowed_by_name_is_taken_out(key):
    """Wherever a new version of the SDK may put something, it stays here."""
    kept = _strip(event_with(**{key: {"data": PAYLOAD}}, contexts={"trace": {"data": PAYLOAD}}), {})

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


def test_a_check_in_is_kept_whole():
    """The Crons monitor needs its slug, status, duration and schedule."""
    check_in = {
        "type": "check_in",
        "check_in_id": "c1",
        "monitor_slug": "rlm-tick",
        "status": "ok",
        "duration": 1.5,
        "monitor_config": {"schedule": {"type": "interval", "value": 3, "unit": "minute"}},
        "release": "rlm@1",
        "environment": "production",
    }

    assert _strip(dict(check_in), {}) == check_in


# -- one issue a cause


def test_one_cause_is_one_issue():
    """Two events of one line of code have one fingerprint, whatever their values; two lines or two errors have two."""
    first = record_of("Event %s could not be carried", "i1:T", event_id="i1:T")
    second = record_of("Event %s could not be carried", "i2:T", event_id="i2:T")
    error = record_of("Event %s could not be carried", "i2:T", exc_info=raised())

    assert fingerprint_of(first) == fingerprint_of(second)
    assert len({tuple(fingerprint_of(one)) for one in (first, error, record_of("Something else"))}) == 3


def test_an_alarm_is_one_issue_wherever_it_is_raised():
    """Whoever found it, in whatever words: Redis that is away is one issue for scheduler and supervisor."""
    here = record_of("Redis failed here", **alarm(Alarm.REDIS_AWAY, "release"))
    there = record_of("Redis failed %s", "there", **alarm(Alarm.REDIS_AWAY, "supervise"))

    assert fingerprint_of(here) == fingerprint_of(there) == ["rlm", "redis_away"]


@pytest.mark.parametrize("cause", Alarm)
def test_an_alarm_arrives_as_a_warning_or_an_error_under_its_headline(reporter, sent, cause):
    """Whatever its level in the log: what keeps events from being sent is an error, anything else a warning."""
    reporter.handle(record_of("In other words", level=logging.WARNING, **alarm(cause, "x")))

    (event,) = sent
    assert event["level"] == ("error" if cause in ERRORS else "warning")
    assert event["logentry"]["formatted"] == cause.headline
    assert event["tags"]["alarm"] == cause.value


def test_a_warning_without_an_alarm_and_what_sentry_says_itself_are_not_sent(reporter, sent):
    """Nobody is called for what is only worth a look; and a failed sending is not sent."""
    reporter.handle(record_of("x", level=logging.WARNING))
    for name in ("sentry_sdk.errors", "urllib3.connectionpool"):
        record = record_of("x")
        record.name = name
        reporter.handle(record)

    assert sent == []


def test_a_storm_is_one_event_a_minute_and_the_next_says_how_many_were_left_out(reporter, sent, clock):
    """A thousand errors of one cause, and one of another: two events; a minute later the count."""
    for number in range(1000):
        reporter.handle(record_of("Event %s could not be carried", f"i{number}:T"))
    reporter.handle(record_of("Something else"))
    assert len(sent) == 2

    clock.time = 60.0
    reporter.handle(record_of("Event %s could not be carried", "i1000:T"))

    assert [event["contexts"]["rlm"]["left_out"] for event in sent] == [0, 0, 999]


def test_only_so_many_causes_are_remembered(clock):
    """A process that lives for months does not grow by them; the oldest is told of again."""
    bounded = Bounded(60.0, clock)

    admitted = [bounded.admit(number) for number in range(MOST_CAUSES + 1)]

    assert admitted == [0] * (MOST_CAUSES + 1)
    assert bounded.admit(MOST_CAUSES) is None
    assert bounded.admit(0) == 0


# -- setting up


def test_without_a_dsn_the_sdk_is_not_even_imported():
    """No DSN, no SDK: nothing is sent, nothing is loaded, and a tick is just its work."""
    code = (
        "import sys, scheduler.service, actors.worker\n"
        "from rlm import telemetry\nfrom rlm.settings import load_settings\n"
        "settings = load_settings(None)\ntelemetry.set_up(settings, 'scheduler')\n"
        "telemetry.tick_began(settings, 0.0)\n"
        "telemetry.tick_ended(settings, 0.0, ok=True, seconds=0.0)\ntelemetry.flush()\n"
        "print('sentry_sdk' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)

    assert done.stdout == "False\n"


def test_the_sdk_is_told_to_look_at_nothing_by_itself(monkeypatch):
    """No integration, no local variables, no bodies, no breadcrumbs, no traces, no headers on calls to others."""
    told, tags, handlers = {}, {}, []
    monkeypatch.setattr(sentry.sentry_sdk, "init", lambda **options: told.update(options))
    monkeypatch.setattr(logging.getLogger(), "addHandler", handlers.append)
    monkeypatch.setattr(sentry.sentry_sdk, "get_global_scope", lambda: SimpleNamespace(set_tag=tags.__setitem__))

    set_up("http://pub@127.0.0.1:1/42", "worker")

    assert [type(one) for one in handlers] == [Reporter]
    assert tags == {"role": "worker"}
    assert told["default_integrations"] is False
    assert told["auto_enabling_integrations"] is False
    assert [one.identifier for one in told["integrations"]] == ["atexit"]
    assert told["include_local_variables"] is False
    assert told["max_request_body_size"] == "never"
    assert told["max_breadcrumbs"] == 0
    assert "send_default_pii" not in told  # off unless asked for, and asking is deprecated
    assert told["traces_sample_rate"] == 0.0
    assert told["trace_propagation_targets"] == []
    assert told["shutdown_timeout"] == sentry.FLUSH_SECONDS
    assert told["before_send"] is _strip


def test_a_dsn_that_is_none_is_refused_and_not_shown():
    """It is a secret, even a mistyped one."""
    with pytest.raises(ConfigurationError) as refused:
        set_up(f"https://{PAYLOAD}", "worker")

    assert "SENTRY_DSN" in str(refused.value)
    assert PAYLOAD not in str(refused.value)
    assert not sentry_sdk.is_initialized()


# -- the tick as a monitor


@each(
    ("every", "value", "unit"),
    [
        (180.0, 3, "minute"),
        (90.0, 2, "minute"),
        (5.0, 1, "minute"),
        (60.0, 1, "minute"),
        (7200.0, 2, "hour"),
        (5400.0, 90, "minute"),
        (86_400.0, 1, "day"),
    ],
)
def test_sentry_is_told_a_schedule_it_knows(every, value, unit):
    """Whole minutes, hours or days, rounded up: a tick that comes sooner is never called missed."""
    assert sentry.config_of(every, 10.0)["schedule"] == {"type": "interval", "value": value, "unit": unit}


@pytest.mark.parametrize(("window", "minutes"), [(180.0, 4), (18.0, 2), (61.0, 3)])
def test_a_check_in_that_nobody_ends_is_ended_after_the_window(window, minutes):
    """A killed scheduler's tick does not stay in progress: Sentry calls it timed out a minute after the deadline."""
    assert sentry.config_of(180.0, window)["max_runtime"] == minutes


def test_ticks_more_often_than_a_minute_check_in_once_a_minute():
    """Sentry takes six check-ins a minute of a monitor, and drops others without a word."""
    ticks = [5.0 * number for number in range(36)]

    assert [due for due in ticks if sentry.checks_in(due, 5.0)] == [0.0, 60.0, 120.0]
    assert all(sentry.checks_in(due, 90.0) for due in (0.0, 90.0, 180.0))


def test_installations_that_share_a_project_have_a_monitor_each():
    """The default's is called after the product; another prefix gives another slug, of what a slug may hold."""
    assert sentry.slug_of("rlm") == "rlm-tick"
    assert sentry.slug_of("Shop.EU") == "shop-eu-tick"
    assert len(sentry.slug_of("x" * 50)) == 50  # as long as a prefix, and as a slug may be


@pytest.mark.parametrize("ok", [True, False])
def test_whoever_finishes_the_run_ends_the_check_in_that_another_began(monkeypatch, make_settings, ok):
    """The id is made from the moment the tick was due, so that the successor of a killed scheduler knows it."""
    sent = []
    monkeypatch.setattr(sentry, "capture_checkin", lambda **fields: sent.append(fields))
    monkeypatch.setattr(telemetry, "_reporting", [sentry])
    due = 1_800_000_000.0

    telemetry.tick_began(make_settings(), due)
    telemetry.tick_ended(make_settings(), due, ok=ok, seconds=3.5)
    telemetry.tick_began(make_settings(), due + 180)

    assert [one["status"] for one in sent] == ["in_progress", "ok" if ok else "error", "in_progress"]
    assert [one["duration"] for one in sent] == [None, 3.5, None]  # by the clock of Redis, whatever this host's says
    first, second, other = (one["check_in_id"] for one in sent)
    assert first == second != other


@pytest.fixture
def make_settings():
    from rlm.settings import load_settings

    return lambda: load_settings(None, {})
