"""Runs and queues on a terminal, from documents only."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from rlm.admin import words
from rlm.admin.attendance import NO_SUPERVISOR
from rlm.admin.unwell import unwell
from rlm.terminal import drawing
from rlm.terminal.live import Drawn, JSONLines, Lines, console_on
from rlm.terminal.queue import queue_line, queue_picture
from rlm.terminal.record import changes, line_of, picture_of, rest_line, rest_rows
from tests.each import each
from tests.unit.statuses import DEFAULT_TYPES, endpoint, record, rest, status

WIDTHS = (20, 30, 40, 52, 80, 140)
HOSTILE = "\x1b[2J\x9b31m\u202e\nown line[/red]"
LONG = "A_TYPE_WHOSE_NAME_IS_LONGER_THAN_ANYBODY_WOULD_LIKE_TO_READ_ON_A_TERMINAL_OF_EIGHTY_COLUMNS"


def queues(**more):
    """Return a document of the monitor."""
    return {
        "as_of": "2026-11-25T10:15:00.000Z",
        "events": 1200,
        "staged": 3,
        "processing": 0,
        "failed": 2,
        "leftover": 40,
        "retried": 1,
        "by_type": {name: {"pending": 300, "oldest_seconds": 61.0} for name in DEFAULT_TYPES},
        "run": None,
        "redis": {"ping_ms": 0.4, "used_bytes": 12_345_678, "max_bytes": 0},
        "arriving_per_minute": 120.0,
        "settled_per_minute": None,
        **more,
    }


def drawn(picture, width, **options):
    console = Console(file=io.StringIO(), width=width, force_terminal=False, **options)
    console.print(picture)
    return console.file.getvalue()


CALLING = status(types=(LONG,), endpoints=12)
DOCUMENTS = {
    "five types": status(),
    "one type": status(types=("A",), endpoints=1),
    "long names": status(types=(LONG, f"{LONG}_2"), endpoints=6),
    "many endpoints": CALLING,
    "many types": status(types=[f"TYPE_{number}" for number in range(20)]),
    "many workers": status(workers=20),
    "draining": status(state="draining", called_seconds=None, workers=0, plan=None, to_take=12345),
    "no types": status(types=()),
    "wide characters": status(types=("余额检查" * 12,)),
    "left over": status(forecast={"expected_leftover": 120, "forecast_seconds": 170, "binds": f"{LONG} binds " * 4}),
    "budgets": status(by_budget={"account": endpoint(list(DEFAULT_TYPES), 50, allowed=50, free=0)}),
    "finished": record(),
    "failed": record(failure="no worker came up: " * 9),
    "finished with long names": record(types=(LONG,), endpoints=12),
    "at rest": rest(),
    "never run": rest(last_record=None, last=None, last_tick=None, schedulers=0),
}


@each("width", WIDTHS)
@each("name", DOCUMENTS)
def test_no_line_is_wider_than_the_terminal(name, width):
    """Whatever there is to show, at any width, and with no more than ASCII as well."""
    picture = picture_of(DOCUMENTS[name])

    assert max(map(cell_len, drawn(picture, width).splitlines())) <= width


@each("width", WIDTHS)
@each("name", ["one type", "five types", "finished", "budgets", "at rest"])
def test_no_value_is_cut_on_a_narrow_terminal(name, width):
    """Whole columns are omitted and texts are wrapped; only names, and what a worker does, are cut, with a mark."""
    picture = drawn(picture_of(DOCUMENTS[name]), width)
    lines = [line.strip("│╭╮╰╯─ ") for line in picture.splitlines()]
    told = {word for line in lines for word in line.split()}

    assert "20261125T101500123Z-1a2b" in "".join(lines), "the id, if on two lines"
    if name != "at rest":
        assert ("60/180" in told) is (name != "finished")
        assert not [word for word in told if word[0].isdigit() and "…" in word]
    assert ("30/minute" in told) is ("limit" in told)


@each("width", WIDTHS)
@each("found", [queues(), queues(by_type={})])
def test_the_queues_fit_their_terminal(found, width):
    """No figure is cut."""
    lines = drawn(queue_picture(found), width).splitlines()
    told = " ".join(" ".join(line.strip("│ ") for line in lines).split())

    assert max(map(cell_len, lines)) <= width
    for figure in ("120 items/min", "not known yet", "uses 12 MB"):
        assert figure in told


@pytest.mark.parametrize("width", [80, 140])
def test_a_run_shows_what_one_wants_to_know(width):
    """Phase, countdown, forecast, each type, what each endpoint has used and when it has a slot, and who works."""
    picture = drawn(picture_of(status()), width)

    for told in (
        "· running · schedule",
        "1:47 min left of 3:00 min",
        "finishes in 50 s (57 s to spare); all of it fits",
        "60/180",
        "30/30 13 s",
        "12/30",
        "3 of 3 ready, 9 of 15 lanes busy",
        "4000",
        "overflow_api_2",
    ):
        assert told in picture
    assert ("1703-4000-0 at overflow_api_0 1.5 s" in picture) == (width == 140)


def test_what_does_not_fit_is_told_with_what_binds():
    """By now, not as it was planned."""
    picture = drawn(picture_of(DOCUMENTS["left over"]), 80)

    assert "120 events will be left over" in picture
    assert "binds" in picture


def test_an_endpoint_that_is_not_well_is_named():
    """With its circuit and for how much longer, though its cell says no more than the circuit."""
    found = status()
    ill = {"health": "resting", "circuit_reason": "failing", "circuit_seconds": 12.0}
    found["by_endpoint"]["overflow_new_balance_2"] |= ill

    assert "! overflow_new_balance_2 resting (failing) for 12 s" in drawn(picture_of(found), 80)


@pytest.mark.parametrize(("width", "told"), [(80, "resting"), (140, "resting (failing) for 1:02 min")])
def test_a_health_is_told_in_as_many_words_as_fit(width, told):
    """None is cut: why, and for how long, stands below all the same."""
    found = status(types=("A", "INVOICE"), endpoints=2)
    for one in found["by_endpoint"].values():
        one |= {"health": "resting", "circuit_reason": "failing", "circuit_seconds": 62.0, "limit": "60/minute"}

    rows = [line for line in drawn(picture_of(found), width).splitlines() if "60/minute" in line]

    assert len(rows) == 4
    assert all(row.partition("60/minute")[2].strip(" │").partition("  ")[0] == told for row in rows)


def test_bars_fill_their_column():
    """On a wide terminal no hole is between a bar and the numbers beside it."""
    (row,) = [
        line for line in drawn(picture_of(status(types=("A",), endpoints=1)), 140).splitlines() if "60/180" in line
    ]

    assert "░  60/180" in row


def test_a_long_sentence_is_not_cut_where_it_names_the_cause():
    """What binds a run may take several lines on a terminal of 80 columns."""
    binds = f"no call to {'a_long_name ' * 30}is counted on; 1 event had all attempts of this run"
    forecast = {"forecast_seconds": 120.0, "expected_leftover": 9, "workers": 3, "binds": binds, "shortage": ""}

    told = " ".join(drawn(picture_of(status(forecast=forecast)), 80).replace("│", " ").split())

    assert "1 event had all attempts of this run" in told


def test_endpoints_that_are_not_well_for_the_same_reason_are_told_together():
    """How many, how long the last of them takes, and some of their names."""
    # A run whose endpoints are held but for two, which fail
    found = status()
    for number, one in enumerate(found["by_endpoint"].values()):
        one |= {"health": "held", "circuit_reason": None, "circuit_seconds": 12.0 + number}
    for name in ("new_balance_0", "overflow_new_balance_1"):
        found["by_endpoint"][name] |= {"health": "resting", "circuit_reason": "failing"}

    held, failing = unwell(found)

    assert held.startswith("18 held for up to 31 s: rebalance_needed_0, ")
    assert held.endswith(" and 15 more")
    assert failing == "2 resting (failing) for up to 25 s: new_balance_0, overflow_new_balance_1"


def test_of_many_endpoints_those_without_a_call_are_left_out_of_a_record():
    """So that it fits a terminal; of few all are shown."""
    many, few = record(), record(types=("A",))
    for found in (many, few):
        for one in list(found["by_endpoint"].values())[1:]:
            one["calls"] = 0

    assert "and 19 more without a call" in drawn(picture_of(many), 80)
    assert "overflow_rebalance_needed_1" not in drawn(picture_of(many), 80)
    assert "overflow_a_3" in drawn(picture_of(few), 80)


def test_a_run_with_nothing_to_do_says_so():
    """In place of a plan for nothing."""
    found = record()
    for one in found["by_type"].values():
        one.update(dict.fromkeys(("taken", "carried_over", "completed", "failed", "leftover"), 0))
    for one in found["by_endpoint"].values():
        one["calls"] = 0

    picture = drawn(picture_of(found), 80)

    assert "there was no event to send" in picture
    assert "11 became dead letters, 1 of them at intake, which counts as invalid" in picture
    assert "intake: 1 invalid" in picture
    assert "no call was made" in picture
    assert "planned" not in picture


def test_a_run_that_nobody_conducts_says_so():
    """With what to type; in a line and as a picture."""
    found = status(conductor=None)

    assert "! nobody conducts this run: `rlm up` or `rlm scheduler`" in drawn(picture_of(found), 80)
    assert "nobody conducts this run" in line_of(found)
    assert "nobody conducts" not in line_of(status(conductor="h:1:a"))


def test_where_no_call_can_begin_no_end_is_promised():
    """Neither in the open run nor in its record."""
    plan = status()["plan"] | {"forecast_seconds": 0.0, "expected_leftover": 9}

    assert "no call is expected to begin; 9 events" in line_of(status(plan=plan, called_seconds=None))
    assert "planned: 3 workers, no call, 9 left over" in drawn(picture_of(record(plan=plan)), 80)


def test_what_is_left_over_is_not_done_any_moment():
    """Calls that hang past the deadline are all that is left: nothing more is expected in time."""
    expected = {"forecast_seconds": 10.0, "expected_leftover": 8, "workers": 3, "binds": "", "shortage": ""}

    hanging, ending = (words.forecast(status(forecast=expected | {"expected_leftover": left})).words for left in (8, 0))

    assert hanging == "no more answers are expected in time; 8 events will be left over"
    assert ending == "done any moment now; all of it fits"


@pytest.mark.parametrize("called", [None, 70.0])
@pytest.mark.parametrize("health", ["resting", "probing"])
def test_where_endpoints_have_to_answer_well_again_it_says_how_long_that_is_waited_for(called, health):
    """Nothing more is counted on, and yet the run goes on until its deadline and probes."""
    expected = {"forecast_seconds": called or 0.0, "expected_leftover": 45, "workers": 3, "binds": "", "shortage": ""}
    found = status(called_seconds=called, forecast=expected)
    assert "waits for" not in words.forecast(found).words

    for one in found["by_endpoint"].values():
        one |= {"health": health, "circuit_reason": None, "circuit_seconds": None}

    assert words.forecast(found).words == (
        "waits for an endpoint to answer well, at most until the deadline; if none does, 45 events will be left over"
    )
    assert words.forecast(found).leftover == "up to 45 events will be left over"  # which stands alone in a heading


@pytest.mark.parametrize("width", WIDTHS)
def test_who_may_not_see_the_slots_sees_the_rest(width):
    """A user who only looks on is told nothing of slots and health; the picture has the types all the same."""
    found = status()
    for entry in found["by_endpoint"].values():
        for key in ("types", "used", "allowed", "free", "next_slot_seconds", "health", "circuit_seconds"):
            del entry[key]

    seen = drawn(picture_of(found), width)

    assert all(name[:3] in seen for name in DEFAULT_TYPES)
    assert "12/30" not in seen


def test_on_a_low_terminal_workers_give_way():
    """The picture is as high as it may be, and says how many workers it leaves out."""
    lines = drawn(picture_of(status(workers=20), 30), 80).splitlines()

    assert len(lines) == 30
    assert any("more workers, " in line and "lanes busy" in line for line in lines)


def test_where_no_worker_has_a_line_they_are_told_of_once():
    """`workers 3 of 3 ready` and then `and 3 more` would read as six."""
    seen = drawn(picture_of(status(workers=3), 20), 80)

    assert "workers 3 of 3 ready" in seen
    assert "more worker" not in seen


def test_of_many_types_those_without_events_are_left_out():
    """They are only counted."""
    found = status(types=[f"TYPE_{number}" for number in range(12)], endpoints=1)
    for number in range(3):
        found["by_type"][f"TYPE_{number}"] |= {"taken": 0, "carried_over": 0, "completed": 0, "failed": 0}

    assert "and 3 types without an event in this run" in drawn(picture_of(found), 80)


def hostile(document):
    """Return the document with something hostile at the end of every text except the states, which are parsed."""
    if isinstance(document, dict):
        return {
            name + HOSTILE * name.isupper(): value if name == "state" and value != "ready" else hostile(value)
            for name, value in document.items()
        }
    if isinstance(document, list):
        return [hostile(one) for one in document]
    return f"{document}{HOSTILE}" if isinstance(document, str) else document


@pytest.mark.parametrize("name", ["one type", "left over", "budgets", "finished", "idle"])
def test_text_from_outside_is_made_visible(name):
    """Whatever another program wrote into Redis, whichever field it is: no command, no line of its own, no markup."""
    plain = rest() if name == "idle" else DOCUMENTS[name]

    picture = drawn(picture_of(hostile(plain)), 140)

    assert not {"\x1b", "\u202e", "\x9b"} & set(picture)
    assert not any(line.startswith("own line") for line in picture.splitlines())
    assert "\\u001b" in picture


def test_a_terminal_of_no_columns_is_as_wide_as_it_says(monkeypatch):
    """COLUMNS=0 is what some programs leave to those that they start."""
    monkeypatch.setenv("COLUMNS", "0")
    stream = Terminal()

    console_on(stream).print(picture_of(rest()))

    assert "no run is open" in stream.getvalue()


def test_between_runs_it_says_what_comes_next():
    """What ran last, the next tick, what waits, and dead letters."""
    found = rest()
    found["by_endpoint"]["overflow_rebalance_needed_1"]["health"] = "paused"
    picture = drawn(picture_of(found), 100)

    for told in (
        "endpoints     overflow_rebalance_needed_1 paused",
        "partial after 1:13 min",
        "10:18:00 UTC, in 2:00 min",
        "12 items, 7 events left over",
        "3; see `rlm failed",
    ):
        assert told in picture


def test_between_runs_nothing_is_probed_but_by_the_next_call():
    """Else it seems that something runs."""
    found = rest()
    found["by_endpoint"] = {name: endpoint(["T"], health="probing") for name in ("a", "b")}

    assert "2 probing (by the next call): a, b" in drawn(picture_of(found), 80)


def test_a_tick_is_not_promised_while_no_scheduler_leads():
    """The one that led was killed: its lease is over, and its entry in the register is not yet."""
    assert ", if a scheduler leads by then: none does now" in drawn(picture_of(rest(conductor=None)), 100)
    assert "leads" not in drawn(picture_of(rest()), 100)


def test_without_a_scheduler_no_tick_is_promised():
    """It says what to start."""
    picture = drawn(picture_of(rest(schedulers=0, last_record=None)), 100)

    assert "no scheduler is heard from; `rlm up`" in picture
    assert "`rlm start --wait` starts one now" in picture


def test_the_queues_show_how_they_move():
    """Rates, ages and Redis."""
    picture = drawn(queue_picture(queues()), 80)

    for told in (
        "1,200 items, 3 in staging",
        "120 items/min",
        "not known yet",
        "1 min",
        "answers in 0.4 ms",
    ):
        assert told in picture


def test_the_queues_in_a_line():
    """The same for a pipe."""
    assert queue_line(queues()) == (
        "1,203 items waiting; 41 in the ledger; 2 dead letters; oldest 1:01 min; arriving 120 items/min; "
        "settled not known yet; Redis answers in 0.4 ms, uses 12 MB"
    )


def test_a_run_in_a_line():
    """Everything that a line may be searched for."""
    assert line_of(status()) == (
        "run 20261125T101500123Z-1a2b running: 300 of 900 completed; 25 under way, 565 waiting, 10 failed; "
        "1,543 calls a minute; "
        "workers 3 of 3 ready, 9 of 15 lanes busy; 1:47 min left of 3:00 min; "
        "finishes in 50 s (57 s to spare); all of it fits"
    )
    assert line_of(record()).startswith(
        "run 20261125T101500123Z-1a2b partial after 1:13 min: 300 completed, 10 failed,"
    )
    assert line_of(rest()).startswith("no run is open; last run 20261125T101500123Z-1a2b partial")


@pytest.mark.parametrize(
    ("more", "said"),
    [({"seconds_left": 3.0}, False), ({"state": "finishing"}, True), ({"run_id": "another"}, True)],
)
def test_a_line_is_worth_writing_when_something_has_changed(more, said):
    """That time has passed is no change."""
    assert (changes(status()) != changes(status(**more))) == said


def test_lines_come_with_changes_and_trouble_is_told_once():
    """Until things are known again, which is worth a line."""
    told = []
    lines = Lines(told.append, lambda found: found["text"], lambda found: found["text"])
    with lines:
        for text in ("a", "a", "b"):
            lines.show({"text": text})
        lines.trouble("Redis is away")
        lines.trouble("Redis is away")
        lines.show({"text": "b"})

    assert [line[10:] for line in told] == ["a", "b", "out of date, trying again: Redis is away", "b"]


def test_json_lines_are_one_document_each():
    """While nothing is known there is none on stdout, and a word where people read."""
    told, said = [], []
    lines = JSONLines(told.append, said.append)
    with lines:
        lines.show({"a": "b\n"})
        lines.trouble("away")
        lines.trouble("away")

    assert told == ['{"a":"b\\n"}']
    assert said == ["Out of date, trying again: away"]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def test_a_picture_is_drawn_in_place_and_kept_while_redis_is_away(monkeypatch):
    """What was known last stays, and above it why it is out of date; in the end the cursor is there again."""
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Drawn(stream, lambda found, _height: Text(found["text"])) as view:
        view.show({"text": "the picture"})
        view.trouble("Redis is away")

    written = stream.getvalue()
    assert written.rindex("the picture") > written.index("Out of date for 0 s, trying again: Redis is away")
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")


@pytest.mark.parametrize(
    ("numbers", "width", "expected"),
    [
        ((1, 1), 10, [5, 5]),
        ((0, 0), 10, [0, 10]),
        ((1, 1000), 10, [1, 9]),
        ((1000, 1, 1), 10, [8, 1, 1]),
        ((1, 1, 1, 1), 2, [0, 0, 1, 1]),
    ],
)
def test_a_bar_shows_every_part(numbers, width, expected):
    """However small, as long as there is a column for it; and it is always as wide as it is."""
    shares = drawing.shares(numbers, width)

    assert sum(shares) == width
    assert sorted(shares) == sorted(expected)


def test_a_name_is_cut_in_its_middle():
    """Names of endpoints differ at their ends."""
    assert drawing.cut(Text("overflow_rebalance_api_1"), 12, "…").plain == "overf…_api_1"


@pytest.mark.parametrize(
    ("workers", "lacking", "told"),
    [
        (0, "", "none; they start when a run needs them"),
        (0, NO_SUPERVISOR, "none, and no supervisor is heard from"),
        (3, "", "3 alive"),
        (3, "every supervisor has another configuration", "3 alive, and every supervisor has another configuration"),
    ],
)
def test_between_runs_workers_are_promised_only_by_a_supervisor_that_lives(workers, lacking, told):
    """Else none will start, and the next run fails for it."""
    found = rest(workers=workers, lacking=lacking)

    assert dict(rest_rows(found))["workers"].plain.startswith(told)
    assert ("supervisor" in rest_line(found)) is bool(lacking)


def test_of_an_unfit_redis_nothing_is_promised_between_runs():
    """Neither workers nor what `rlm start` would do; who is missing is said as well."""
    rows = dict(rest_rows(rest(unfit="it evicts: do not", last_record=None)))
    assert (rows["workers"].plain, rows["last run"].plain) == ("none", "none yet")

    rows = dict(rest_rows(rest(unfit="it evicts: do not", lacking=NO_SUPERVISOR)))
    assert rows["workers"].plain == f"none, and {NO_SUPERVISOR}"


def test_a_forecast_that_leaves_probes_out_says_so():
    """The run lasts longer than what fits, and what is left over may be fewer."""
    found = status(state="running", forecast={**status()["plan"], "expected_leftover": 6, "probed": ["pay_b"]})

    told = words.forecast(found).words

    assert told.endswith(", except for events with which pay_b is probed; up to 6 events will be left over")
