"""What the pages of runs, queue and failures read from the ledger."""

from __future__ import annotations

import msgspec

from rlm.admin.letters import LetterFilter, letter_page
from rlm.admin.report import open_status
from rlm.admin.runs import RunFilter, course, runs_page
from rlm.ledger import intake
from tests.store import steps
from tests.values import record_from, replace

FIELDS = {"trigger": "schedule", "started_at": "2026-11-28T10:15:00.000Z", "finished_at": "2026-11-28T10:16:00.000Z"}


def write_records(store, number):
    """Leave records `20261128T0-00`, ...; every third is partial."""
    for at in range(number):
        run_id = f"20261128T0-{at:02d}"
        record = record_from(run_id=run_id, state="completed" if at % 3 else "partial", **FIELDS)
        store.client.hset(store.keys.records, run_id, msgspec.json.encode(record))


def test_the_list_of_runs_goes_on_where_it_ended(store):
    """Newest first; each run is on one page, and the last page has no next."""
    write_records(store, 7)
    found, before = [], ""

    while before is not None:
        page = runs_page(store, RunFilter(), 3, before)
        found.append([record.run_id[-2:] for record in page.records])
        before = page.next

    assert found == [["06", "05", "04"], ["03", "02", "01"], ["00"]]


def test_a_filter_looks_behind_those_that_do_not_fit(store):
    """A page is full as long as there are any."""
    write_records(store, 10)

    page = runs_page(store, RunFilter(states=frozenset({"partial"})), 3)

    assert [record.run_id[-2:] for record in page.records] == ["09", "06", "03"]
    assert page.next == "20261128T0-03"


def test_the_status_of_a_run_that_drains_counts_what_it_has_still_to_take(store, token, monkeypatch):
    """Every item is counted, as such or as the event that it became; and there is no plan of nothing left over."""
    monkeypatch.setattr(intake, "CHUNK_ITEMS", 2)
    steps.push(store, *steps.items(6, steps.TYPE))
    run = steps.open_run(store, token)

    found = [open_status(store, run)]
    found += [open_status(store, run) for _ in store.intake.drain(token, run.id, steps.priorities(store))]
    steps.push(store, *steps.items(1, steps.TYPE))  # for the next run
    found.append(open_status(store, run))

    assert [(one.to_take, one.counts.taken) for one in found] == [(6, 0), (4, 2), (2, 4), (0, 6), (0, 6)]
    assert {one.plan for one in found} == {None}


def test_the_course_of_a_run_has_its_calls_and_what_was_changed(store, token, running):
    """By the log of calls sent and the record of changes, in seconds from its start."""
    run = running(2)
    steps.complete(store, steps.claim(store))
    store.control.pause(store.endpoints()[steps.ENDPOINT], "me@host", 5.0)
    status = open_status(store, run)
    entry = status.by_endpoint[steps.ENDPOINT]
    entries = {**status.by_endpoint, steps.ENDPOINT: replace(entry, calls=3)}  # two more than the log of calls has

    found = course(store, replace(status, by_endpoint=entries))

    assert [0 <= at < 60 for at in found.calls[steps.ENDPOINT]] == [True]
    assert found.missing == {steps.ENDPOINT: 2}
    assert [(each.change.what, each.change.name) for each in found.changes] == [("pause", steps.ENDPOINT)]


def test_a_page_of_letters_has_the_groups_of_all_that_fit(store, token, running):
    """And the number of those that fit, which its buttons are about."""
    running(3)
    for detail in ("HTTP 422: no", "HTTP 422: never", "HTTP 400: what"):
        claim = steps.claim(store)
        steps.reject(store, claim, detail)
    wanted = LetterFilter(answers=frozenset({"HTTP 422"}))

    page = letter_page(store, wanted, 1, 1)

    assert (page.fitting, page.total) == (2, 3)
    assert [msgspec.json.decode(raw)["detail"] for raw in page.letters] == ["HTTP 422: no"]
    assert [(group.letters, group.answer) for group in page.groups] == [(2, "HTTP 422")]
