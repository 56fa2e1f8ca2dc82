"""Documents for views: the status of an open run, a record, the time between two runs."""

from __future__ import annotations

import msgspec

from rlm.core.documents import Record, Rest, RunStatus

DEFAULT_TYPES = ("REBALANCE_NEEDED", "OPEN_POSITION_DETECTED", "OPEN_ORDER_DETECTED", "NEW_BALANCE", "BALANCE_CHECK")


def endpoint(types, used=12, **more):
    """Return the entry of an endpoint in a status."""
    counted = {
        "calls": 90,
        "completed": 90,
        "throttled": 0,
        "errors": 0,
        "peak_in_window": 30,
        "p50_ms": 5,
        "p95_ms": 9,
    }
    standing = {
        "types": types,
        "used": used,
        "allowed": 30,
        "free": 30 - used,
        "next_slot_seconds": 0 if used < 30 else 12.3,
    }
    return {**counted, **standing, "limit": "30/minute", "health": "ok", "circuit_seconds": None, **more}


def worker(pid, busy=3, **more):
    """Return the entry of a worker in a status."""
    calls = [{"event_id": f"1703-{pid}-{n}:T", "endpoint": f"overflow_api_{n}", "seconds": 1.5} for n in range(busy)]
    facts = {
        "pid": pid,
        "host": "h",
        "state": "ready",
        "threads": 5,
        "busy": busy,
        "other_configuration": False,
        "started_at": "2026-01-01T00:00:00Z",
    }
    return {**facts, "calls": calls, **more}


def status(*args, **more):
    """Return a status of an open run of 180 events a type, a third of them done."""
    return msgspec.convert(_status(*args, **more), RunStatus)


def _status(types=DEFAULT_TYPES, endpoints=4, workers=3, **more):
    one = {
        "taken": 170,
        "carried_over": 10,
        "completed": 60,
        "failed": 2,
        "leftover": 118,
        "inflight": 5,
    }
    each = [worker(4000 + number) for number in range(workers)]
    return {
        "run_id": "20261125T101500123Z-1a2b",
        "state": "running",
        "trigger": "schedule",
        "started_at": "2026-11-25T10:15:00.123Z",
        "deadline": "2026-11-25T10:18:00.123Z",
        "duration_seconds": 73.0,
        "window_seconds": 180.0,
        "seconds_left": 107.0,
        "called_seconds": 70.0,
        "counts": {
            "taken": 850,
            "carried_over": 50,
            "completed": 300,
            "failed": 10,
            "leftover": 590,
            "invalid": 1,
            "duplicates": 0,
        },
        "by_type": {name: dict(one) for name in types},
        "by_endpoint": {
            f"{'' if number == 0 else 'overflow_'}{name.lower()}_{number}": endpoint(
                [name], used=30 if number == 0 else 12
            )
            for name in types
            for number in range(endpoints)
        },
        "plan": {
            "workers": 3,
            "threads": 5,
            "forecast_seconds": 120.0,
            "lower_bound_seconds": 90.0,
            "expected_leftover": 0,
            "actual_seconds": None,
        },
        "conductor": "h:1:a",
        "forecast": None,
        "to_take": 0,
        "unfit": None,
        "hosts": [],
        "conditions": [],
        "as_of": "2026-11-25T10:16:13.123Z",
        "failure": "",
        "redis_away_seconds": 0.0,
        "troubles": [],
        "why": [],
        "used": {"calls_per_minute": 0.0},
        "workers": team(workers, each),
        **more,
    }


def team(number, each=(), **more):
    """Return the workers of a status."""
    counts = {"peak": 3, "restarted": 0, "now": number, "ready": number, "wanted": 3, "other_configuration": 0}
    return {**counts, "lacking": None, "each": each, **more}


def record(**more):
    """The record of a finished run."""
    defaults = {"state": "partial", "finished_at": "2026-11-25T10:18:00.000Z"}
    return msgspec.convert(_status(**{**defaults, **more}), Record)


def rest(**more):
    """Return the document while no run is open."""
    waiting = {"events": 12, "staged": 0, "leftover": 7, "failed": 3, "processing": 0, "by_type": {}}
    more_of_endpoint = {"kind": "endpoint", "budget": None, "limit_by": "file", "limit_at": None, "failures": 0}
    more_of_endpoint |= dict.fromkeys(("since", "circuit_reason", "paused_by", "paused_at", "paused_until"))
    by_endpoint = _status()["by_endpoint"]
    found = {
        "state": "idle",
        "last": "r",
        "last_tick": "2026-11-25T10:15:00.000Z",
        "unfit": None,
        "conditions": [],
        "installation": {"config": "rlm.toml", "redis": "embedded", "prefix": "rlm"},
        "last_record": msgspec.to_builtins(record()),
        "last_ended_seconds": 12.0,
        "last_tick_seconds": 60.0,
        "next_tick": "2026-11-25T10:18:00.000Z",
        "next_tick_seconds": 120.0,
        "waiting": waiting,
        "by_endpoint": {name: {"name": name, **one, **more_of_endpoint} for name, one in by_endpoint.items()},
        "schedulers": 1,
        "conductor": "h:1:a",
        "supervisors": 1,
        "workers": 0,
        "lacking": "",
        "hosts": [],
        **{name: msgspec.to_builtins(value) for name, value in more.items()},
    }
    return msgspec.convert(found, Rest)
