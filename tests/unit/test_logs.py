"""Log lines: the meaning of each key, in text and in JSON, on a terminal and elsewhere; every call has an action."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from rlm.cli.processes import scheduler
from rlm.core.alarms import Alarm, alarm
from rlm.core.errors import StoreGarbledError, StoreUnreachableError
from rlm.ledger.trouble import Outage
from rlm.processes.procfile import ALARM_COLOUR, JsonPrinter, TextPrinter
from rlm.settings.secrets import Secrets, remember
from rlm.telemetry.logs import FACTS, KEYS, JsonFormatter, LineFormatter, LogFormat, is_coloured, log_format
from tests.clocks import SetClock
from tests.each import each

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "operations.md"


class Stream(io.StringIO):
    """A stream that is a terminal, or not."""

    def __init__(self, *, terminal):
        super().__init__()
        self._terminal = terminal

    def isatty(self):
        return self._terminal


def record_of(message, *args, level=logging.WARNING, exc_info=None, **facts):
    record = logging.LogRecord("rlm.delivery.lane", level, "lane.py", 1, message, args, exc_info)
    record.created, record.process = 1_700_000_000.25, 4711
    vars(record).update(facts)
    return record


def full_record():
    """A record that has every fact."""
    try:
        int("1\n2")
    except ValueError:
        facts = {name: f"the-{name}" for name in FACTS} | {"lane": 3, "counts": {"calls": 2}}
        return record_of("Event %s failed", "i:T", exc_info=sys.exc_info(), **facts)


# -- the forms


@pytest.mark.parametrize("formatter", [LineFormatter(), JsonFormatter("worker")], ids=["text", "json"])
def test_what_is_secret_is_masked_in_both_forms_whoever_logs_it(formatter):
    """In the sentence, its values, a fact and a traceback."""
    remember(Secrets(["hunter2 hunter2"]))
    try:
        error = (ValueError, ValueError("hunter2 hunter2"), None)
        record = record_of("hunter2 hunter2 and %s", "hunter2 hunter2", exc_info=error)
        record.name, record.event_id = "urllib3.connectionpool", "hunter2 hunter2"
        line = formatter.format(record)
    finally:
        remember(Secrets())

    assert "hunter2" not in line
    assert line.count("***") == 4


FOREIGN = """
import logging, sys, warnings
from rlm.settings import load_settings
from rlm import telemetry
telemetry.set_up(load_settings(), "worker")
for name in ("urllib3", "uvicorn", "apscheduler", "dramatiq", "redis", "asyncio", "hpack.x"):
    logging.getLogger(name).setLevel(logging.DEBUG)
    for level in ("debug", "info", "warning"):
        getattr(logging.getLogger(name), level)("%s of %s, hunter2", level, name)
warnings.warn("hunter2")
logging.getLogger("rlm.x").debug("own")
"""


def test_what_libraries_say_below_a_warning_does_not_come_out_and_the_rest_is_masked(tmp_path):
    """Whatever level is asked for, and though a library raised its own; Python's warnings too."""
    environ = {"RLM_LOG": "debug", "RLM_LOG_FORMAT": "text", "RLM_WEB__TOKEN": "env:T", "T": "hunter2", "PATH": ""}
    said = subprocess.run(
        [sys.executable, "-c", FOREIGN],
        cwd=tmp_path,
        env=environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    ).stderr

    assert "hunter2" not in said
    assert re.findall(r"(\w+) of", said) == ["warning"] * 7
    assert " own" in said


def test_a_line_of_json_has_every_key_that_is_documented():
    """Time in UTC with milliseconds, a level, who says so, one sentence, facts, numbers, the traceback."""
    told = json.loads(JsonFormatter("worker", "w1").format(full_record()))

    assert tuple(told) == KEYS
    assert told["time"] == "2023-11-14T22:13:20.250Z"
    assert (told["level"], told["role"], told["pid"], told["logger"]) == (
        "WARNING",
        "worker",
        4711,
        "rlm.delivery.lane",
    )
    assert told["message"] == "Event i:T failed"
    assert (told["lane"], told["run_id"], told["counts"]) == (3, "the-run_id", {"calls": 2})
    assert told["exception"].endswith("ValueError: invalid literal for int() with base 10: '1\\n2'")


def test_a_line_of_json_leaves_out_what_there_is_not():
    """A worker's own id is on every line of it; what does not apply is no key."""
    told = json.loads(JsonFormatter("worker", "w1").format(record_of("x", action="a", item="a payload")))

    assert list(told) == ["time", "level", "role", "pid", "logger", "message", "action", "worker"]
    assert told["worker"] == "w1"


@each("text", ["a\nb", "a\x1b[31mb", "a\x7fb", "a\x9bb", "a\u2028b", "a\u202eb", "\ud800"])
def test_control_characters_are_escaped_in_both_forms(text):
    """What comes from outside makes no line of its own, and moves no cursor."""
    for formatter in (LineFormatter(), JsonFormatter("worker")):
        line = formatter.format(record_of("%s", text, event_id=text))
        assert line.isascii()
        assert line.isprintable()


def test_a_line_of_text_is_for_a_person():
    """Time, level, sentence, then the facts in their order."""
    line = LineFormatter().format(record_of("Event %s failed", "i:T", event_id="i:T", action="give_back"))

    assert line == "22:13:20.250 WARNING Event i:T failed  [action=give_back event_id=i:T]"


def test_only_the_level_is_coloured():
    """So that a line found by its words is found on a terminal as well."""
    line = LineFormatter(colour=True).format(record_of("x\x1b[0m"))

    assert line == "22:13:20.250 \x1b[33mWARNING\x1b[0m x\\x1b[0m"


@each(
    ("asked", "terminal", "expected"),
    [
        (None, True, LogFormat.TEXT),
        (None, False, LogFormat.JSON),
        ("auto", False, LogFormat.JSON),
        ("text", False, LogFormat.TEXT),
        ("JSON", True, LogFormat.JSON),
        ("other", True, LogFormat.TEXT),
    ],
)
def test_text_is_for_a_terminal_and_json_for_anything_else(asked, terminal, expected):
    """Unless the variable says otherwise."""
    environ = {} if asked is None else {"RLM_LOG_FORMAT": asked}

    assert log_format(environ, Stream(terminal=terminal)) is expected


@each(
    ("environ", "terminal", "expected"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ],
)
def test_colour_is_for_a_terminal_and_can_be_declined(environ, terminal, expected):
    """NO_COLOR has the last word."""
    assert is_coloured(environ, Stream(terminal=terminal)) is expected


def test_a_form_that_is_none_is_a_fault_of_usage():
    """The option and the variable are checked alike."""
    by_option = CliRunner().invoke(scheduler, ["--log-format", "xml"])
    by_variable = CliRunner(env={"RLM_LOG_FORMAT": "xml"}).invoke(scheduler, [])

    for done in (by_option, by_variable):
        assert done.exit_code == 2
        assert "'auto', 'text', 'json'" in done.output


def test_under_up_every_line_is_json_whoever_wrote_it():
    """A line that is JSON is passed on; another, of a program that knows of no form, is wrapped."""
    from honcho.printer import Message

    output = io.StringIO()
    printer = JsonPrinter(output)
    lines = [(b'{"message": "x"}\n', None), (b"Traceback \x1b[31m\n", "32"), ("[1]\n", None), ("died\n", ALARM_COLOUR)]
    for data, colour in lines:
        printer.write(Message("line", data, datetime.fromtimestamp(0.25, UTC), "web", colour))

    printer.write(Message("line", "scheduler started\n", datetime.fromtimestamp(0.25, UTC), "up", "32"))
    printer.write(Message("line", b"Error: Redis is away\n", datetime.fromtimestamp(0.25, UTC), "web", "32"))

    first, second, third, fourth, own, why = map(json.loads, output.getvalue().splitlines())
    assert first == {"message": "x"}
    wrapped = {"time": "1970-01-01T00:00:00.250Z", "level": "INFO", "role": "web"}
    assert second == {**wrapped, "message": "Traceback \x1b[31m"}
    assert third == {**wrapped, "message": "[1]"}
    assert fourth == {**wrapped, "level": "ERROR", "message": "died"}
    assert why == {**wrapped, "level": "ERROR", "message": "Error: Redis is away"}  # else only its end is an error
    assert own == {**wrapped, "role": "up", "message": "scheduler started", "action": "up"}
    assert "\x1b" not in output.getvalue()


def test_under_up_a_person_reads_one_time_a_line(monkeypatch):
    """That of the log where there is one, in UTC; on a terminal long lines are wrapped beside the names."""
    from honcho.printer import Message

    # What RLM logs, with its level in colour, and what another program says, on a terminal of 70 columns
    output = io.StringIO()
    printer = TextPrinter(output, coloured=True)
    printer.width = 9
    monkeypatch.setattr(printer, "_columns", lambda: 70)
    logged = b"12:00:01.500 \x1b[33mWARNING\x1b[0m Worker w:1 is gone; what it held is pending again  [action=x]\n"

    for data, name, colour in ((logged, "scheduler", "36"), ("listening\n", "other", None)):
        printer.write(Message("line", data, datetime.fromtimestamp(0.25, UTC), name, colour))

    first, second, third = output.getvalue().splitlines()
    assert first == (
        "\x1b[0m\x1b[36m12:00:01.500 scheduler | \x1b[0m\x1b[33mWARNING\x1b[0m Worker w:1 is gone; what it held is"
    )
    assert second == f"{'':25}pending again  [action=x]"
    assert third == "00:00:00.250 other     | listening"


def test_under_up_no_line_is_wrapped_for_a_file():
    """Nor on a terminal so narrow that next to nothing would be left."""
    from honcho.printer import Message

    output = io.StringIO()
    TextPrinter(output, coloured=False).write(
        Message("line", "x " * 200, datetime.fromtimestamp(0, UTC), "other", "36")
    )

    assert output.getvalue() == f"00:00:00.000 other | {'x ' * 200}\n"


# -- trouble with Redis


@pytest.fixture
def clock(monkeypatch):
    clock = SetClock(0.0)
    monkeypatch.setattr("rlm.ledger.trouble.system_clock", clock)
    return clock


def test_a_short_outage_is_a_warning_a_lasting_one_an_error_and_its_end_is_told(caplog, clock):
    """A restart heals by itself; what lasts needs somebody. Told of every five seconds, not at each turn."""
    caplog.set_level("INFO")
    outage = Outage(logging.getLogger("rlm.x"), "release")

    for tenth in range(120):
        clock.time = tenth / 10
        outage.tell(StoreUnreachableError("refused"), "nothing is released", run_id="r1")
    outage.over()
    outage.over()

    levels = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "ERROR", "ERROR", "INFO"]
    assert [getattr(record, "alarm", None) for record in caplog.records] == [None, *[Alarm.REDIS_AWAY] * 2, None]
    assert "for 10 s; nothing is released: refused" in caplog.text


def test_what_cannot_be_read_is_told_with_its_traceback(caplog):
    """It may be a fault of RLM's own, and only the traceback tells where."""
    outage = Outage(logging.getLogger("rlm.x"), "release")

    outage.tell(StoreUnreachableError("away"), "it waits")
    Outage(logging.getLogger("rlm.x"), "release").tell(StoreGarbledError("float division by zero"), "it waits")

    assert [bool(one.exc_info) for one in caplog.records] == [False, True]


def test_an_outage_counts_from_when_the_command_was_sent_that_was_not_answered(caplog, clock):
    """Five seconds were waited for it before anybody could tell: that is a lasting one, and no second is left out."""
    caplog.set_level("INFO")
    outage = Outage(logging.getLogger("rlm.x"), "release")
    supervisors = Outage(logging.getLogger("rlm.y"), "supervise", lasting_seconds=30.0)

    clock.time = 105.0
    for one in (outage, supervisors):
        one.tell(StoreUnreachableError("no answer", waited_seconds=5.0), "nothing is released")
    clock.time = 106.6
    lasted = outage.over()

    assert lasted == pytest.approx(6.6)
    assert "Redis answers again, after 6.6 s" in caplog.text
    told = [(record.levelname, getattr(record, "alarm", None)) for record in caplog.records]
    assert told == [("ERROR", Alarm.REDIS_AWAY), ("WARNING", None), ("INFO", None)]


# -- what is in the code, and in the documentation


def log_calls():
    """Return every logger call in the packages: its file, its line, its method, and its facts."""
    methods = {"debug", "info", "warning", "error", "exception", "critical", "log"}
    for package in ("rlm", "actors", "scheduler"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in methods:
                    owner = ast.unparse(node.func.value)
                    if owner in {"log", "self._log"} or owner.startswith("logging.getLogger"):
                        extra = next((one.value for one in node.keywords if one.arg == "extra"), None)
                        yield f"{path.relative_to(ROOT)}:{node.lineno}", node.func.attr, extra


def test_every_log_call_names_its_action():
    """A log is searched by what was done: `extra` has an action, by its own words or by whoever makes it."""
    calls = list(log_calls())

    wrong = [
        place
        for place, _, extra in calls
        if extra is None
        or (isinstance(extra, ast.Dict) and "action" not in [ast.literal_eval(key) for key in extra.keys if key])
    ]
    assert len(calls) > 50
    assert wrong == []


def test_an_alarm_carries_its_action_and_its_numbers():
    """What `alarm` makes is what the formatters and telemetry read."""
    extra = alarm(Alarm.LEFTOVERS, "close_run", counts={"leftover": 3}, run_id="r1")

    assert extra == {"alarm": "leftovers", "action": "close_run", "counts": {"leftover": 3}, "run_id": "r1"}
    assert set(extra) <= set(KEYS)


def test_the_documentation_has_every_key_and_no_other():
    """docs/operations.md explains each key of a line of JSON, in its order."""
    table = PAGE.read_text().partition("| key | what it says |")[2].partition("\n\n")[0]

    assert tuple(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == KEYS


def test_the_documentation_has_every_alarm_and_no_other():
    """docs/operations.md says of each alarm when it is raised, its levels, and what to do."""
    table = PAGE.read_text().partition("| alarm | in the log | in Sentry |")[2].partition("\n\n")[0]

    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [cause.value for cause in Alarm]
