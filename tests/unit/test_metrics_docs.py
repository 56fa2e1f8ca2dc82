"""The board and the alerts name existing metrics, and each alert its section of docs/operations.md."""

from __future__ import annotations

import json
import re
from pathlib import Path

from rlm.admin.conditions import KINDS
from rlm.telemetry.metrics import METRICS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "deployment"
ALERTS = FOLDER / "alerts.yml"
BOARD = json.loads((FOLDER / "dashboard.json").read_text())
#: Labels that Prometheus adds.
OF_PROMETHEUS = {"instance", "job", "le"}


def expressions():
    """Return every query of the board, with its variables filled in, and of the alerts."""
    targets = [target["expr"] for panel in BOARD["panels"] for target in panel.get("targets", [])]
    filled = [query.replace("$__rate_interval", "1m") for query in targets]
    lines = re.findall(r"^ +expr: (?:\|\n((?: {10}.*\n)+)|(.+))", ALERTS.read_text(), re.MULTILINE)
    return [*filled, *("".join(parts).strip() for parts in lines)]


def test_every_metric_that_a_query_names_exists_with_its_labels():
    """Of the board as of the alerts; a metric renamed would leave a panel empty and an alert silent."""
    by_name = {metric.name: metric for metric in METRICS}
    assert len(expressions()) > 20
    for query in expressions():
        for name, matchers in re.findall(r"\b(rlm_\w+)(?:\{([^}]*)\})?", query):
            metric = by_name.get(name) or by_name[re.sub(r"_(bucket|count|sum)$", "", name)]
            labels = set(re.findall(r"(\w+)(?:=~|!=|!~|=)", matchers))
            assert labels <= {*metric.labels, *OF_PROMETHEUS}, query


def test_every_alert_names_the_codes_that_raise_it():
    """And every error or warning has one; leftovers do once they grow (`backlog_grows`), redis_away by `rlm_up`."""
    codes = {code for match in re.findall(r'code=~?"([^"]+)"', ALERTS.read_text()) for code in match.split("|")}
    assert codes | {"leftovers", "redis_away"} == {code for code, kind in KINDS.items() if kind.severity != "info"}
    assert len(KINDS) <= 30, "too many to know: make one of two"


def test_every_alert_leads_to_its_symptom():
    """And says how bad it is, and what it is about."""
    text = ALERTS.read_text()
    titles = re.findall(r"^###? (.+)$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    symptoms = re.findall(r"^ +runbook: docs/operations\.md#(.+)$", text, re.MULTILINE)

    assert len(symptoms) == text.count("- alert:") == text.count("summary:") == text.count("severity:")
    assert set(symptoms) - {title.lower().replace(" ", "-") for title in titles} == set()
