"""Log lines: the meaning of each key, in text and in JSON, on a terminal and elsewhere; every call has an action."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rlm.cli.foreman import LinePrinter
from rlm.settings.secrets import Secrets, remember
from rlm.telemetry.logs import FACTS, KEYS, JsonFormatter, LineFormatter
from tests.each import each

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "operations.md"


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
        facts = {name: f"the-{name}" for name in FACTS} | {"lane": 3}
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
    """Time in UTC with milliseconds, a level, who says so, one sentence, facts, the traceback."""
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
    assert (told["lane"], told["run_id"]) == (3, "the-run_id")
    assert told["exception"].endswith("ValueError: invalid literal for int() with base 10: '1\\n2'")


@each("text", ["a\nb", "a\x1b[31mb", "a\x7fb", "a\x9bb", "a\u2028b", "a\u202eb", "\ud800"])
def test_control_characters_are_escaped_in_both_forms(text):
    """What comes from outside makes no line of its own, and moves no cursor."""
    for formatter in (LineFormatter(), JsonFormatter("worker")):
        line = formatter.format(record_of("%s", text, event_id=text))
        assert line.isascii()
        assert line.isprintable()


def test_under_up_lines_of_json_are_passed_on_and_its_own_are_json_too():
    from honcho.printer import Message

    output = io.StringIO()
    printer = LinePrinter(output, as_json=True, coloured=False)
    for name, data in (("web", b'{"message": "x"}\n'), ("up", "scheduler started\n")):
        printer.write(Message("line", data, datetime.fromtimestamp(0.25, UTC), name, None))

    passed, own = map(json.loads, output.getvalue().splitlines())
    assert passed == {"message": "x"}
    facts = {"time": "1970-01-01T00:00:00.250Z", "level": "INFO", "role": "up"}
    assert own == {**facts, "message": "scheduler started", "action": "up"}


# -- what is in the code, and in the documentation


def test_the_documentation_has_every_key_and_no_other():
    """docs/operations.md explains each key of a line of JSON, in its order."""
    table = PAGE.read_text().partition("| key | what it says |")[2].partition("\n\n")[0]

    assert tuple(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == KEYS
