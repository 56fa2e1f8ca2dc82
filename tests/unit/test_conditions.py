"""The table of conditions: each has a remedy, and alerts name no other."""

from __future__ import annotations

import re

from rlm.admin.conditions import KINDS
from tests.unit.test_metrics_docs import ALERTS


def test_a_remedy_is_a_command_a_setting_or_a_thing_by_name():
    """Something in backticks, a path, or what the cause asks for; never a look at another line."""
    for code, kind in KINDS.items():
        assert re.search(r"`|/|\{fix\}|it ends|keep a copy", kind.remedy), code
        assert not re.search(r"see above|find out", kind.remedy), code


def test_every_alert_names_the_codes_that_raise_it():
    """Alerts and conditions are one list; what Prometheus alone can know has no code."""
    codes = {code for match in re.findall(r'code=~?"([^"]+)"', ALERTS.read_text()) for code in match.split("|")}
    assert codes <= {*KINDS}
