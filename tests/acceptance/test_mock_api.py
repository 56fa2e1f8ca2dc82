"""The mock API over real sockets. It is the judge of RLM, so it has tests itself."""

from __future__ import annotations

import http.client
import json
import time
from contextlib import closing

from rlm.core.endpoint import Budget, Endpoint, EventType, Limit
from rlm.sandbox.mockapi import MockApi, recount
from tests.values import replace

#: Seconds until something that ought to have happened has not.
PATIENCE = 10


class SetClock:
    """A clock that a test sets; it stamps arrivals."""

    def __init__(self):
        self.seconds = 1000.0

    def now(self):
        return time.time()

    def monotonic(self):
        return self.seconds

    def sleep(self, seconds):
        self.seconds += seconds


def one_type(limit="30/minute", seconds=0.0, names=("a", "b")):
    endpoints = tuple(Endpoint(name, f"http://elsewhere:1/{name}", Limit.parse(limit), 10.0) for name in names)
    return EventType("T", 5, seconds, endpoints)


def connect(api):
    return closing(http.client.HTTPConnection("127.0.0.1", api.port, timeout=PATIENCE))


def post(connection, path="/a", event_id="i:T", attempt=1):
    body = json.dumps({"event_id": event_id, "event_type": "T", "run_id": "r", "attempt": attempt, "item": {}})
    connection.request("POST", path, body, {"Idempotency-Key": event_id})
    response = connection.getresponse()
    response.read()
    return response


def get(api, path):
    with connect(api) as connection:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())


def test_refuses_the_31st_call_at_59_9_s_and_accepts_it_at_60_1_s():
    """The limit holds to the tenth of a second, for each endpoint alone, and the log proves it."""
    clock = SetClock()
    with MockApi([one_type()], clock=clock) as api, connect(api) as connection:
        first = [post(connection, event_id=f"{n}:T").status for n in range(30)]
        clock.sleep(59.9)
        early, other = post(connection, event_id="early:T"), post(connection, "/b")
        clock.sleep(0.2)
        late = post(connection, event_id="late:T")

        assert first == [200] * 30
        assert (early.status, early.headers["Retry-After"]) == (429, "1")
        assert (other.status, late.status) == (200, 200)
        arrivals = [arrival for arrival in api.arrivals if arrival.endpoint == "a"]
        # Every period there can be is one that ends with an arrival: count each by hand.
        accepted = [arrival.at for arrival in arrivals if arrival.accepted]
        assert max(sum(end - 60 < at <= end for at in accepted) for end in accepted) == 30
        assert recount(arrivals, Limit.parse("30/minute").rules[0]) == api.summary()["a"].most == 30
        assert [arrival.event_id for arrival in arrivals if not arrival.accepted] == ["early:T"]


def test_a_budget_is_enforced_over_its_endpoints(tmp_path):
    """Over HTTP and in process the budget's count is of all its endpoints, and the endpoints' own is as ever."""
    account = Budget("account", Limit.parse("2/minute"))
    kind = one_type("30/minute")
    kind = replace(kind, endpoints=tuple(replace(one, budget=account) for one in kind.endpoints))
    with MockApi([kind]) as api, connect(api) as connection:
        statuses = [post(connection, path).status for path in ("/a", "/b", "/a", "/b")]

        assert statuses == [200, 200, 429, 429]
        assert (api.budget_summary()["account"].most, api.budget_summary()["account"].refused) == (2, 2)
        assert get(api, "/_mock/budgets")["account"]["accepted"] == 2
        assert set(get(api, "/_mock/summary")) == {"a", "b"}
