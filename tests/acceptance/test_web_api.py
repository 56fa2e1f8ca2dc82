"""The JSON over HTTP: the documents of the commands, and orders with the effects of commands."""

from __future__ import annotations

import pytest

from rlm.admin import start_run
from rlm.delivery import run_end
from rlm.ledger.processes import Process, Role
from rlm.telemetry.metrics import MetricsPage
from tests.acceptance.cli import Installation
from tests.acceptance.webapp import served
from tests.each import each
from tests.store import steps

TOKEN = "a-token-of-24-characters"


@pytest.fixture
def program(inst):
    with served(inst.store, TOKEN) as client:
        yield client.program(TOKEN)


def letters(inst, number):
    """Let `number` events fail in a run, and close it; return the ids of their letters, newest first."""
    inst.push(*steps.items(number, steps.TYPE))
    run = inst.start_run()
    for _ in range(number):
        steps.reject(inst.store, steps.claim(inst.store))
    steps.finish(inst.store, inst.token, run)
    assert run_end.close_run(inst.store, run.id)
    return [one["id"] for one in inst.json("failed", "list")]


#: All options of `rlm plan`.
PLAN = f"count={steps.TYPE}=100 workers=2 set=run.target=0.5 add-endpoint={steps.TYPE}=another_api"
#: Paths, and the commands that print the same.
SAME = [
    ("/api/runs?limit=1", ["list", "1"]),
    ("/api/failed?limit=1", ["failed", "list", "1"]),
    ("/api/failed?type=NONE", ["failed", "list", "--type", "NONE"]),
    (f"/api/failed?type={steps.TYPE}&reason=rejected&since=1h&search=i1", ["failed", "list", "--search", "i1"]),
    ("/api/failed?grouped=true", ["failed", "list", "--grouped"]),
    (f"/api/plan?count={steps.TYPE}=100", ["plan", "--count", f"{steps.TYPE}=100"]),
    (
        f"/api/plan?{PLAN.replace(' ', '&')}",
        ["plan", *(part for one in PLAN.split() for part in f"--{one}".split("=", 1))],
    ),
    ("/api/endpoints", ["endpoint", "list"]),
    ("/api/events/i1", ["explain", "i1"]),
    ("/api/compliance?since=2h", ["compliance", "--since", "2h"]),
]


def test_each_document_is_the_one_of_its_command(inst, program):
    """To the last value, but for those that are of the moment."""
    letters(inst, 3)
    program.post(f"/api/endpoints/{steps.ENDPOINT}/resume", {})
    for path, command in SAME:
        found, printed = program.json(path), inst.json(*command)
        assert still(found) == still(printed), path
    last = program.json("/api/status")["last"]
    assert program.json(f"/api/runs/{last[:-2]}") == inst.json("result")
    inst.store.processes.announce(Role.WORKER, Process("worker-1", 1, "host", 0.0, "ready", 5))
    assert program.json("/api/scaling") == {"wanted": 0, "alive": 1, "ready": 1}


def test_openapi_describes_each_answer(inst, program):
    letters(inst, 1)
    described, last = program.json("/openapi.json"), program.json("/api/status")["last"]
    for path in ["status", "runs", "runs/{run}", "queue", "plan", "endpoints", "workers", "compliance"]:
        answer, operation = program.json(f"/api/{path}".format(run=last)), described["paths"][f"/api/{path}"]["get"]
        schema = operation["responses"]["2XX"]["content"]["application/json"]["schema"]
        forms = [form.get("items", form)["$ref"] for form in schema["anyOf"]]
        kinds = [described["components"]["schemas"][form.rpartition("/")[2]] for form in forms]
        for entry in answer if isinstance(answer, list) else [answer]:
            assert any({*kind["required"]} <= entry.keys() <= kind["properties"].keys() for kind in kinds), path


#: What differs between two looks.
MOMENT = {"since", "from", "until", "known_from"}


def still(document):
    """Return a document without values that change with time."""
    if isinstance(document, list):
        return [still(one) for one in document]
    if not isinstance(document, dict):
        return document
    return {key: still(value) for key, value in document.items() if key not in MOMENT}


@each(
    ("path", "words"),
    [
        ("/api/runs?limit=x", "Expected `int`"),
        ("/api/runs?limit=0", ">= 1"),
        ("/api/failed?since=0", "not a duration"),
        ("/api/failed?since=yesterday", "not a duration"),
        ("/api/status?x=1", "unknown field `x`"),
        ("/api/failed?reason=none", "Invalid enum value"),
        ("/api/failed?grouped=perhaps", "Expected `bool`"),
        ("/api/compliance?since=", "not a duration"),
        (f"/api/plan?count={steps.TYPE}", "is not TYPE=N"),
        ("/api/plan?count=NONE=1", "not a configured type"),
        ("/api/plan?workers=1001", "<= 1000"),
        ("/api/plan?set=run.target=2", "run.target"),
        ("/api/plan?set=redis.url=redis://evil/0", "cannot be set here"),
        ("/api/plan?set=web.token=env:HOME", "cannot be set here"),
        (f"/api/plan?set=types.{steps.TYPE}.endpoints[0].headers.X=env:HOME", "cannot be set here"),
    ],
)
def test_what_cannot_be_asked_is_told(program, path, words):
    """400, with what is wrong and what to do."""
    answer = program.get(path)

    assert answer.status == 400, answer.data
    assert words in answer.json()["error"]
    assert answer.json()["remedy"]


@each(
    ("status", "body"),
    [
        *((400, body) for body in (b"{", b"[]", b'{"seconds": "5"}', b'{"seconds": -1}', b'{"seconds": NaN}')),
        *((400, body) for body in (b'{"nothing": 1}', b"[" * 60_000)),
        *((200, body) for body in (b"", b'{"seconds": 5}')),
    ],
)
def test_a_body_is_checked(inst, program, status, body):
    """What cannot be used changes nothing, and leaves no record."""
    before = inst.store.rules.changes()

    answer = program.post(f"/api/endpoints/{steps.ENDPOINT}/pause", body, Content_Type="application/json")

    assert answer.status == status, answer.data
    assert (inst.store.rules.changes() == before) is (status != 200)


def test_a_run_that_no_scheduler_starts_is_answered_with_what_to_start(program, monkeypatch):
    monkeypatch.setattr(start_run, "ANSWER_SECONDS", 0.0)

    answer = program.post("/api/runs")

    assert (answer.status, "rlm scheduler" in answer.json()["remedy"]) == (503, True)


def test_letters_that_came_after_the_others_were_counted_stay(inst, program):
    newer, older = letters(inst, 2)

    dealt = program.post("/api/failed/drop", {"all": True, "most": 1}).json()

    assert (dealt["dropped"], dealt["more"]) == ([older], 1)
    assert [letter["id"] for letter in inst.json("failed", "list")] == [newer]


def test_an_order_names_one_endpoint_and_a_limit(program):
    """Patterns are for commands."""
    for name in ("none", "rebalance_*", "%2e%2e"):
        assert program.post(f"/api/endpoints/{name}/pause").status == 404
    wrong = program.post(f"/api/endpoints/{steps.ENDPOINT}/limit", {"rate": "many"})
    assert (wrong.status, "30/minute" in wrong.json()["error"]) == (400, True)


def test_the_metrics_have_the_numbers_of_the_record_in_seconds(tmp_path, valkey_only_url):
    with Installation(tmp_path, valkey_only_url, "[run]\nwindow_seconds = 60") as inst:
        inst.push(*steps.items(3, steps.TYPE))
        run = inst.start_run()
        steps.reject(inst.store, steps.claim(inst.store))
        steps.complete(inst.store, steps.claim(inst.store), seconds=0.25)
        assert run_end.close_run(inst.store, run.id, token=inst.token)
        page, record = MetricsPage(inst.store).write().decode(), inst.json("result")
    values = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    assert float(values["rlm_run_target_seconds"]) == 45.0
    assert float(values["rlm_run_duration_seconds_sum"]) == pytest.approx(record["duration_seconds"])
    assert float(values[f'rlm_call_duration_seconds_sum{{endpoint="{steps.ENDPOINT}"}}']) == 0.25
    for what in ("taken", "completed", "failed", "leftover"):
        assert float(values[f'rlm_events_total{{outcome="{what}",type="{steps.TYPE}"}}']) == record["counts"][what] > 0
