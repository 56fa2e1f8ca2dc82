"""Untrusted text has no effect on a terminal or a log, whichever command prints it."""

from __future__ import annotations

import json
import logging
from unicodedata import category

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len as columns

from rlm.cli.group import rlm
from rlm.core.text import safe, safe_line
from rlm.ledger.processes import Process, Role
from rlm.telemetry.logs import LineFormatter
from tests.acceptance.cli import Installation
from tests.store import steps

#: Letters, marks and signs that nobody sees, and what nobody knows the looks of: private and unassigned.
UNSEEN = (
    "\u3164\ufe0f\ufe0e\u034f\U000e0100\u115f\u1160\u17b4\u17b5\u180b\u180e\u2800\uffa0\ue000\U000f0000\u0378\ufff0"
)
#: OSC, CSI, C1, bidirectional, zero-width, tags, soft hyphen, line breaks of every kind, a lookalike of our own output.
HOSTILE = (
    "\x1b]0;x\x07\x1b[2J\x9b31m\x85\u202e\u2066\u200b\ufeff\U000e0041\xad\u061c\u2028\r\nok  all is well\x00\x7f"
    + UNSEEN
)
#: What a person's terminal may get of it.
HARMLESS = {"\n"}

FIXED = [
    *(["status"], ["list"], ["result"], ["queue", "stats"], ["failed", "list"], ["worker", "list"], ["doctor"]),
    *(
        ["queue", "list"],
        ["queue", "list", "1"],
        ["failed", "list", "--grouped"],
    ),
    ["explain", HOSTILE],
    *(["plan"], ["endpoint", "list"], ["explain", f"i1:{steps.TYPE}"], ["compliance"]),
]


def unsafe(text):
    """Return the characters of `text` that could control a terminal or are invisible."""
    kinds = {"Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn"}
    return {one for one in text if (category(one) in kinds or one in UNSEEN) and one not in HARMLESS}


@pytest.fixture
def installation(tmp_path, valkey_only_url):
    """An installation with hostile text in everything that others may write."""
    with Installation(tmp_path, valkey_only_url) as made:
        yield made


def hostile_items():
    """Return good items with hostile fields, and hostile bad ones of every kind that makes a dead letter."""
    return [
        json.dumps({"id": "i1", "wallet_name": HOSTILE, "events": [steps.TYPE], HOSTILE: HOSTILE}).encode(),
        steps.item("i2", HOSTILE, steps.TYPE),
        steps.item(HOSTILE, steps.TYPE),
        json.dumps({"id": "i3", "wallet_name": "w", "events": [HOSTILE + "\n" + HOSTILE]}, ensure_ascii=False).encode(),
        HOSTILE.encode("utf-8", "surrogatepass"),
        HOSTILE.encode() + b"\xff",
        json.dumps({"id": "i4", "wallet_name": "w", "events": [], "n": HOSTILE}, ensure_ascii=False).encode(),
    ]


def test_no_command_prints_what_a_terminal_could_take_for_commands(installation):
    """Items, unknown types, answers of endpoints, dead letters of another program, processes of another host."""
    pushed = installation.rlm("queue", "push", input=b"\n".join(one.replace(b"\n", b" ") for one in hostile_items()))
    installation.push(*hostile_items())
    installation.store.processes.announce(Role.WORKER, Process(HOSTILE, 1, HOSTILE, 0.0, HOSTILE, 1, HOSTILE, HOSTILE))
    installation.store.processes.announce(Role.SCHEDULER, Process(HOSTILE, 1, HOSTILE, 0.0, revision=HOSTILE))
    run = installation.start_run()
    claim = steps.claim(installation.store)
    assert steps.reject(installation.store, claim, f"it answered {HOSTILE}")
    letter = {"id": "theirs", "reason": HOSTILE, "detail": HOSTILE, "failed_at": HOSTILE, "event_id": HOSTILE}
    installation.store.client.lpush(installation.settings.queue.failed, json.dumps({**letter, HOSTILE: 1, "item": {}}))

    said = [pushed.output]
    handles = [one["id"] for one in installation.json("failed", "list", "100")]
    for args in (*FIXED, *(["failed", "show", handle] for handle in handles), ["failed", "show", HOSTILE]):
        for form in ((), ("--json",)):
            done = CliRunner().invoke(rlm, [*args, *form, "--config", str(installation.config)])
            assert "This is a fault of RLM" not in done.output, (args, done.output)
            said.append(done.output)
            if form and done.exit_code == 0:
                json.loads(done.stdout)
    installation.close_run(run)
    said += [installation.rlm("status").output, installation.rlm("failed", "retry", *handles, code=1).output]

    assert len(handles) >= 12
    assert [text for text in said if unsafe(text)] == []
    assert not [line for text in said for line in text.splitlines() if line.startswith("ok  all is well")]


@given(st.text())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_text_is_made_safe_and_still_says_the_same_as_json(text):
    """Nothing unsafe is left, lines stay lines only where they may, and JSON is read as what it was."""
    document = json.dumps(text, ensure_ascii=False)

    assert unsafe(safe(text)) <= {"\t"}
    assert not unsafe(safe_line(text))
    assert "\n" not in safe_line(text)
    assert json.loads(safe(document)) == text


@given(st.text())
@settings(max_examples=300, deadline=None)
def test_a_log_record_is_one_line_that_shows(text):
    """Whatever stands in a message, a fact, or an exception."""
    error = ValueError(text)
    record = logging.LogRecord("rlm", logging.ERROR, "", 1, "%s", (text,), (ValueError, error, None))
    record.event_id = text

    line = LineFormatter().format(record)

    assert line.isprintable()
    line.encode("utf-8")


def test_what_does_not_show_is_written_out():
    """Each by itself, alone and beside a letter, in a line of the log as well; JSON means the same by it."""
    for one in UNSEEN:
        for text in (one, f"a{one}b"):
            assert one not in safe(text), hex(ord(one))
            assert json.loads(f'"{safe(text)}"') == text
            record = logging.LogRecord("rlm", logging.ERROR, "", 1, "%s", (text,), None)
            assert one not in LineFormatter().format(record)


@pytest.mark.rest
def test_no_line_is_wider_than_the_terminal_whatever_is_in_it(installation, monkeypatch):
    """A type of 40,000 characters, one of wide ones, one of such as do not show: a table has 80 columns.

    Elsewhere a line has as many as it needs, but never so many.
    """
    types = ["A" * 40_000, "漢" * 5_000, "\u3164" * 3_000, "z" + "\u0301" * 5_000]
    installation.store.processes.announce(
        Role.WORKER, Process("w" * 40_000, 1, "h" * 40_000, 0.0, "ready", 1, "r", "s")
    )
    letters = [
        {
            "id": f"{number:016x}",
            "reason": "unknown_type",
            "detail": f"{name!r} is none",
            "failed_at": "x",
            "run_id": None,
        }
        | {"event_id": f"i:{name}", "item": {"id": "i", "events": [name]}}
        for number, name in enumerate(types)
    ]
    for letter in letters:
        installation.store.client.lpush(installation.settings.queue.failed, json.dumps(letter))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    for terminal in (True, False):
        isatty = "click.testing._NamedTextIOWrapper.isatty"
        monkeypatch.setattr(isatty, lambda _self, terminal=terminal: terminal, raising=False)
        for args in (*FIXED, ["failed", "show", letters[0]["id"]]):
            done = CliRunner().invoke(rlm, [*args, "--config", str(installation.config)])
            most = 80 if terminal and args[-1] == "list" else 8100
            said = done.output.replace(str(installation.config), "FILE")  # a path is as long as it is
            wide = [line for line in said.splitlines() if columns(line) > most]
            assert wide == [], (args, terminal, [columns(line) for line in wide])
