"""The table of conditions: each has a remedy, and docs/operations.md has the same.

`uv run python -m tests.unit.test_conditions` writes the table there.
"""

from __future__ import annotations

import re
from pathlib import Path

from rlm.admin.conditions import KINDS
from tests.unit.test_metrics_docs import ALERTS

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
TABLE = re.compile(r"^\| code \| severity \|.*\n(?:\|.*\n)*", re.MULTILINE)


def table():
    rows = [("code", "severity", "what it means", "what to do"), ("---",) * 4]
    for code, kind in KINDS.items():
        remedy = re.sub(r", \{limit\},", "", kind.remedy).replace("{fix}", "what it says, by the cause")
        names = {"subject": "NAME", "run": "ID", "pid": "PID"}
        rows.append((f"`{code}`", kind.severity, kind.meaning, remedy.format_map(names)))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def test_the_page_has_them_all_as_they_are():
    """In the order of the table, with severity, meaning and remedy."""
    assert TABLE.findall(PAGE.read_text()) == [table()]


def test_a_remedy_is_a_command_a_setting_or_a_thing_by_name():
    """Something in backticks, a path, or what the cause asks for; never a look at another line."""
    for code, kind in KINDS.items():
        assert re.search(r"`|/|\{fix\}|it ends|keep a copy", kind.remedy), code
        assert not re.search(r"see above|find out", kind.remedy), code


def test_every_alert_names_the_codes_that_raise_it():
    """Alerts and conditions are one list; what Prometheus alone can know has no code."""
    codes = {code for match in re.findall(r'code=~?"([^"]+)"', ALERTS.read_text()) for code in match.split("|")}
    assert codes <= {*KINDS}


if __name__ == "__main__":
    PAGE.write_text(TABLE.sub(lambda _: table(), PAGE.read_text()))
