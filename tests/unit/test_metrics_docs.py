"""The page of metrics, the board and the alerts name existing metrics, and Prometheus's own tool accepts them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rlm.telemetry.catalogue import METRICS, MetricKind, Sample
from rlm.telemetry.metrics import expose

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "metrics.md"
FOLDER = ROOT / "docs" / "deployment"
ALERTS = FOLDER / "alerts.yml"
BOARD = json.loads((FOLDER / "dashboard.json").read_text())
#: Labels that Prometheus adds.
OF_PROMETHEUS = {"instance", "job", "le"}


def documented():
    """The rows of the page: name, kind, labels, unit, meaning."""
    rows = re.findall(r"^\| `(rlm_\w+)` \| (\w+) \| (.+?) \| (.+?) \| (.+?) \| .+ \|$", PAGE.read_text(), re.MULTILINE)
    return {
        name: (kind, tuple(re.findall(r"`(\w+)`", labels)), unit, meaning) for name, kind, labels, unit, meaning in rows
    }


def expressions():
    """Return every query of the board, with its variables filled in, and of the alerts."""
    targets = [target["expr"] for panel in BOARD["panels"] for target in panel.get("targets", [])]
    filled = [query.replace("$__rate_interval", "1m") for query in targets]
    lines = re.findall(r"^ +expr: (?:\|\n((?: {10}.*\n)+)|(.+))", ALERTS.read_text(), re.MULTILINE)
    return [*filled, *("".join(parts).strip() for parts in lines)]


def promtool(*args, **options):
    """Run it; skip the test if it is not installed."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed: apt-get install promtool")
    return subprocess.run([found, *args], capture_output=True, text=True, check=False, timeout=60, **options)


def example():
    """A page with every metric, each once."""
    for metric in METRICS:
        labels = dict.fromkeys(metric.labels, "x")
        if metric.kind is MetricKind.HISTOGRAM:
            yield Sample(metric.name, {**labels, "le": "1"}, 1, "_bucket")
            yield Sample(metric.name, {**labels, "le": "+Inf"}, 2, "_bucket")
            yield from (Sample(metric.name, labels, 2, suffix) for suffix in ("_count", "_sum"))
        else:
            yield Sample(metric.name, labels, 1)


def test_the_page_has_every_metric_and_no_other():
    """With its kind, its labels and what it is, in the words that Prometheus shows as help."""
    told = {name: (kind, labels, meaning) for name, (kind, labels, _, meaning) in documented().items()}

    assert told == {one.name: (one.kind, one.labels, one.meaning) for one in METRICS}


def test_a_unit_stands_in_the_name():
    """What is in seconds says so, and a counter is a total."""
    for name, (kind, _, unit, _) in documented().items():
        assert ("_seconds" in name) == (unit == "seconds"), name
        assert (kind == MetricKind.COUNTER) == name.endswith("_total"), name


def test_every_metric_that_a_query_names_exists_with_its_labels():
    """Of the board as of the alerts; a metric renamed would leave a panel empty and an alert silent."""
    by_name = {metric.name: metric for metric in METRICS}
    assert len(expressions()) > 20
    for query in expressions():
        for name, matchers in re.findall(r"\b(rlm_\w+)(?:\{([^}]*)\})?", query):
            metric = by_name.get(name) or by_name[re.sub(r"_(bucket|count|sum)$", "", name)]
            labels = set(re.findall(r"(\w+)(?:=~|!=|!~|=)", matchers))
            assert labels <= {*metric.labels, *OF_PROMETHEUS}, query


def test_every_alert_leads_to_its_symptom():
    """And says how bad it is, and what it is about."""
    text = ALERTS.read_text()
    titles = re.findall(r"^###? (.+)$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    symptoms = re.findall(r"^ +runbook: docs/operations\.md#(.+)$", text, re.MULTILINE)

    assert len(symptoms) == text.count("- alert:") == text.count("summary:") == text.count("severity:")
    assert set(symptoms) - {title.lower().replace(" ", "-") for title in titles} == set()


def test_the_page_reads_back_as_it_was_written():
    """By the parser of prometheus-client: each family with its kind and its help."""
    families = {one.name: one for one in text_string_to_metric_families(expose(example()).decode())}

    assert set(families) == {one.name.removesuffix("_total") for one in METRICS}
    for metric in METRICS:
        family = families[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.meaning)
        assert {label for sample in family.samples for label in sample.labels} - {"le"} == set(metric.labels)


def test_what_is_not_in_the_catalogue_cannot_be_exposed():
    """So nothing goes out that the page does not tell of."""
    with pytest.raises(KeyError):
        expose([Sample("rlm_secret", {}, 1)])


@pytest.mark.rest
def test_prometheus_own_tool_accepts_the_page():
    """Names, kinds and help are as it wants them."""
    done = promtool("check", "metrics", input=expose(example()).decode())

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.rest
def test_prometheus_own_tool_accepts_the_alerts_and_tries_them():
    """Each fires where it should, and none in a system that is well."""
    done = promtool("test", "rules", "alerts.test.yml", cwd=FOLDER)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.rest
def test_prometheus_own_tool_accepts_every_query_of_the_board(tmp_path):
    """Each as a rule of its own."""
    rules = [{"record": f"rlm:query{number}", "expr": query} for number, query in enumerate(expressions())]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))  # JSON is YAML

    done = promtool("check", "rules", "rules.yml", cwd=tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
