"""What may leave for Sentry: ids and places in the code, never a payload."""

from __future__ import annotations

import json
import logging
import sys

import pytest
import sentry_sdk

from rlm.telemetry import sentry
from rlm.telemetry.sentry import _strip, monitored_tick, set_up

#: What no event may show, wherever it stood.
PAYLOAD = "wallet-of-alice"


def record_of(message, *args, exc_info=None, **facts):
    record = logging.LogRecord("rlm.lane", logging.ERROR, "lane.py", 1, message, args, exc_info)
    vars(record).update(facts)
    return record


def event_with(**fields):
    return {"event_id": "0" * 32, "level": "error", "logger": "rlm.lane", "platform": "python", **fields}


def raised():
    try:
        int(PAYLOAD)
    except ValueError:
        return sys.exc_info()


def test_the_parameters_of_a_log_line_stay_here():
    """The sentence leaves with its placeholders, what was put in them does not."""
    record = record_of("Event %s of %s failed", "i1:T", PAYLOAD)
    logentry = {"message": record.msg, "formatted": record.getMessage(), "params": list(record.args)}

    kept = _strip(event_with(logentry=logentry), {"log_record": record})

    assert kept["logentry"] == {"message": "Event %s of %s failed", "formatted": "Event %s of %s failed", "params": []}
    assert PAYLOAD not in json.dumps(kept)


def test_a_message_that_is_an_object_leaves_by_its_kind():
    """A library may log an exception as the message itself: its words would be a payload."""
    record = record_of(ValueError(f"bad {PAYLOAD}"))

    kept = _strip(event_with(logentry={"message": str(record.msg)}), {"log_record": record})

    assert kept["logentry"] == {"message": "ValueError", "formatted": "ValueError", "params": []}
    assert PAYLOAD not in json.dumps(kept)


def test_ids_leave_as_tags_and_other_facts_do_not():
    """Which run, which event, which endpoint, what was done: enough to find it with `rlm explain`."""
    facts = {"action": "give_back", "run_id": "r1", "event_id": "i1:T", "endpoint": "api", "item": PAYLOAD}
    record = record_of("x", **facts)

    kept = _strip(event_with(tags={"role": "worker"}, extra=facts), {"log_record": record})

    assert kept["tags"] == {
        "role": "worker",
        "action": "give_back",
        "run_id": "r1",
        "event_id": "i1:T",
        "endpoint": "api",
    }
    assert PAYLOAD not in json.dumps(kept)


def test_the_words_of_an_exception_stay_here():
    """Its type and its place in the code leave; its message may quote an item, at every link of the chain."""
    values = [
        {"type": "ValueError", "value": f"bad {PAYLOAD}", "stacktrace": {"frames": [{"function": "f", "lineno": 1}]}},
        {"type": "KeyError", "value": repr(PAYLOAD)},
    ]

    kept = _strip(event_with(exception={"values": values}), {"exc_info": raised()})

    assert [one["type"] for one in kept["exception"]["values"]] == ["ValueError", "KeyError"]
    assert [one["value"] for one in kept["exception"]["values"]] == ["", ""]
    assert kept["exception"]["values"][0]["stacktrace"]["frames"][0]["function"] == "f"
    assert PAYLOAD not in json.dumps(kept)


@pytest.mark.parametrize("key", ["contexts", "breadcrumbs", "extra", "request", "user", "modules", "threads", "spans"])
def test_what_is_not_allowed_by_name_is_taken_out(key):
    """Wherever a new version of the SDK may put something, it stays here."""
    kept = _strip(event_with(**{key: {"data": PAYLOAD}}), {})

    assert key not in kept
    assert PAYLOAD not in json.dumps(kept)


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


def test_one_cause_is_one_issue():
    """Two events of one line of code have one fingerprint, whatever their values; two lines have two."""
    first = _strip(event_with(), {"log_record": record_of("Event %s could not be carried", "i1:T", event_id="i1:T")})
    second = _strip(event_with(), {"log_record": record_of("Event %s could not be carried", "i2:T", event_id="i2:T")})
    other = _strip(event_with(), {"log_record": record_of("Something else")})

    assert first["fingerprint"] == second["fingerprint"] != other["fingerprint"]


def test_without_a_dsn_nothing_is_set_up():
    """No DSN, no SDK: nothing is sent, and a tick is just its work."""
    set_up(None, "worker")

    assert not sentry_sdk.is_initialized()
    with monitored_tick(180.0, 180.0):
        done = True
    assert done
    with pytest.raises(KeyError), monitored_tick(180.0, 180.0):
        raise KeyError


def test_the_sdk_is_told_to_look_at_nothing_by_itself(monkeypatch):
    """No integration but logging, no local variables, no bodies, no traces, no headers on calls to others."""
    told = {}
    monkeypatch.setattr(sentry.sentry_sdk, "init", lambda **options: told.update(options))
    monkeypatch.setattr(sentry.sentry_sdk, "set_tag", lambda *tag: told.update([tag]))

    set_up("http://pub@127.0.0.1:1/42", "worker")

    assert told["role"] == "worker"
    assert told["default_integrations"] is False
    assert told["auto_enabling_integrations"] is False
    assert [one.identifier for one in told["integrations"]] == ["logging", "excepthook", "atexit"]
    assert told["include_local_variables"] is False
    assert told["max_request_body_size"] == "never"
    assert told["send_default_pii"] is False
    assert told["traces_sample_rate"] == 0.0
    assert told["trace_propagation_targets"] == []
    assert told["before_send"] is _strip
