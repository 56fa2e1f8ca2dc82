"""Fail-overs during a run, on a realistic set-up: TLS, users, two replicas, three sentinels.

Windows are 18 s, because time is divided by ten. The measurements of each trial are printed: `--tier long -s`.
"""

from __future__ import annotations

import re
import signal
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import pairwise

import pytest
from redis.exceptions import TimeoutError as NoReplyError

from rlm.core.errors import StoreError
from rlm.ledger.connect import make_client
from tests.faults.sentinels import SERVICE, Sentinels
from tests.values import as_json
from tests.wait import wait_until

#: A server that dies just before the handshake of TLS leaves a socket that Python's ssl does not close (3.11).
pytestmark = [
    pytest.mark.rest,
    pytest.mark.filterwarnings("ignore:unclosed .ssl.SSLSocket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in. .ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"),
]


#: A run must be closed so many seconds after its deadline.
CLOSED_SECONDS = 2.0
FROZEN_SECONDS = 8.0
#: The guard of life, not divided: on a busy machine Redis may take longer than a tenth of it for a slot.
UNHURRIED = {"RLM_RUN__GUARD_SECONDS": "0.5"}
#: What a worker says of a call whose answer Redis did not take before its lease ended: its event may be sent again.
UNSETTLED = re.compile(
    r"Event (\S+) could not be settled before its lease ended|answer for event (\S+) came after its claim was lost"
)


@dataclass
class Figures:
    """The measurements of one trial, seconds. `silence` is the longest time without a call; the rest count events.

    `unsettled` are those that a worker could not settle. They are at most the calls in flight, one per lane, which
    cannot be counted from outside: finding the primary takes a while on a busy machine, and lanes continue.
    """

    switched: float
    first_call: float
    silence: float
    late: float
    repeats: int
    unsettled: int
    leftover: int


def kill(redis):
    """Kill the process of the primary for good."""
    redis.primary.kill()


def fail_over(redis):
    """Let a sentinel replace the primary on an operator's request; the old one continues meanwhile."""
    with redis.admin(redis.sentinels[0].port) as admin:
        admin.execute_command("SENTINEL", "FAILOVER", SERVICE)


def freeze(redis):
    """Stop the primary for longer than sentinels wait, then continue it; the test may be over by then."""
    frozen = redis.primary
    frozen.signal(signal.SIGSTOP)
    threading.Timer(FROZEN_SECONDS, frozen.go_on).start()


def unsettled(system):
    return {given_up or late for given_up, late in UNSETTLED.findall(system.log("supervisor"))}


def quietly(look, *args):
    try:
        return look(*args)
    except StoreError:
        return None


def trial(redis, system, mishap, events):
    """Cause a mishap during a run; return the measurements, after a check of all promises."""
    system.start_both()
    ids = system.push_evenly(events)
    run_id = system.ask_for_run()
    wait_until(lambda: len(system.api.arrivals) > events / 6, timeout=30, message="calls are made")
    deadline = system.store.runs.current().deadline
    began = time.monotonic()
    mishap(redis)
    record = as_json(
        wait_until(lambda: quietly(system.store.runs.record, run_id), timeout=60, message="the run is closed")
    )
    closed_at = time.time()
    arrivals = sorted(one.at for one in system.api.arrivals)
    known_at = redis.switches[0][0] if redis.switches else began
    after = [at for at in arrivals if at > known_at]
    around = [at for at in arrivals if at >= began - 1]
    figures = Figures(
        known_at - began,
        after[0] - known_at if after else -1.0,
        max(later - earlier for earlier, later in pairwise(around)),
        closed_at - deadline,
        len(system.repeats()),
        len(unsettled(system)),
        record["counts"]["leftover"],
    )
    print(f"{mishap.__name__}: {figures}")
    system.assert_promises(ids, [record])
    return figures


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "mishap",
    [fail_over, *(pytest.param(one, marks=pytest.mark.long) for one in (kill, freeze))],
    ids=lambda one: one.__name__,
)
def test_a_fail_over_in_mid_run_loses_nothing_and_exceeds_no_limit(tmp_path, make_system, mishap):
    """What the new primary forgot holds every endpoint for its longest period."""
    with Sentinels(tmp_path / "redis") as redis, make_system(redis_url=redis.url, env=UNHURRIED) as system:
        figures = trial(redis, system, mishap, 150)

        assert figures.late <= CLOSED_SECONDS


@pytest.mark.long
@pytest.mark.timeout(180)
@pytest.mark.parametrize("seconds", [25, 30])
def test_a_run_whose_deadline_passed_while_redis_stood_still_is_closed_at_its_return(tmp_path, make_system, seconds):
    """All servers stand still, so that nobody can take over: as if Redis were cut off."""
    with Sentinels(tmp_path / "redis") as redis, make_system(redis_url=redis.url, env=UNHURRIED) as system:
        system.start_both()
        ids = system.push_evenly(240)
        run_id = system.ask_for_run()
        wait_until(lambda: len(system.api.arrivals) > 40, timeout=30, message="calls are made")
        for one in (*redis.sentinels, *redis.servers):
            one.signal(signal.SIGSTOP)
        threading.Event().wait(seconds)
        for one in (*redis.servers, *redis.sentinels):
            one.signal(signal.SIGCONT)
        wait_until(redis.takes_writes, timeout=20, message="Redis takes writes again")
        back_at = time.monotonic()
        record = as_json(
            wait_until(lambda: quietly(system.store.runs.record, run_id), timeout=60, message="the run is closed")
        )
        late = time.monotonic() - back_at

        print(f"closed {late:.2f} s after Redis was back")
        with suppress(StoreError):
            system.store.now()
        system.assert_promises(ids, [record])
        assert late <= CLOSED_SECONDS


def test_a_reply_that_comes_too_late_is_not_taken_for_that_of_another_command(tmp_path):
    """Else a lane would make the call that another one got: it would be made twice, in one slot."""
    with Sentinels(tmp_path / "redis") as redis, closing(make_client(redis.url, socket_timeout=0.8)) as client:
        client.ask("PING")
        redis.primary.signal(signal.SIGSTOP)
        with pytest.raises(NoReplyError):
            client.ask("TIME")
        threading.Timer(0.3, redis.primary.go_on).start()

        assert client.ask("EXISTS", "rlm:lease") == 0
