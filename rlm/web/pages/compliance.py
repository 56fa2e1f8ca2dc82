"""The page Compliance: by endpoint and budget the most calls in any period of the last day, against its limit."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from rlm.ledger.reading.compliance import compliance, exceeded, gap, rules
from rlm.web.pages.live import Documents
from rlm.web.pages.page import Page, Query
from rlm.web.pages.plots import Axes, Line, curve

#: How far the page looks back, seconds, and the parts of that time that a strip shows: a quarter of an hour each.
SINCE_SECONDS, PARTS = 86_400.0, 96
_LONG = f"{SINCE_SECONDS / 3600:g} h"
#: How long it is shared, seconds: the whole log of a day is read for it.
_SHARED_SECONDS = 30.0


def context(documents: Documents, _question: Query) -> Mapping[str, Any]:
    """Return what the page shows: what was called, the fullest first, the rules, and what is not known.

    A strip is of the first rule of the limit in force; it may be above that where an `earlier` one was in force.
    """
    found = _found(documents)
    entries = {**found["by_endpoint"], **found["by_budget"]}
    called = {
        name: one["rules"][0]
        | {
            "calls": one["calls"],
            "course": one["course"],
            "earlier": [rule["limit"] for rule in one["rules"] if not rule["in_force"]],
        }
        for name, one in entries.items()
    }
    fullest = sorted(called.items(), key=lambda one: one[1]["amount"] and -one[1]["most"] / one[1]["amount"])
    return {
        "found": found,
        "called": [(name, one) for name, one in fullest if one["calls"]],
        "silent": [name for name, one in called.items() if not one["calls"]],
        "rules": [one for one in rules(found) if one["calls"]],
        "exceeded": exceeded(found),
        "gap": gap(found),
        "strip": strip,
        "long": _LONG,
    }


def strip(name: str, one: Mapping[str, Any]) -> Markup:
    """Return the course of an endpoint or budget against its limit; what is above that stands out."""
    most, course = one["amount"], one["course"]
    lines = [Line([*enumerate(course), (PARTS, course[-1])], "calls", filled=True)]
    if one["exceeded"]:
        over = [value if value > most else 0 for value in course]
        lines.append(Line([*enumerate(over), (PARTS, over[-1])], "over", filled=True))
    label = f"{name}: at most {one['most']:,} of {most:,} calls in any period of the last day"
    ends = ((0.0, f"{_LONG} ago"), (float(PARTS), "now"))
    axes = Axes(PARTS, max(most, *course) * 1.05, ends, ((most, f"{most:,}"),))
    return curve(label, axes, [*lines, Line([(0, most), (PARTS, most)], "most")], height=100)


def _found(documents: Documents) -> Mapping[str, Any]:
    return documents.get("compliance", lambda store: compliance(store, SINCE_SECONDS, PARTS), _SHARED_SECONDS)


def as_file(documents: Documents) -> str:
    """Return the rules as CSV, with a line of headings; truth is `true` or `false`, as in JSON."""
    each, text = list(rules(_found(documents))), io.StringIO()
    writer = csv.DictWriter(text, each[0], lineterminator="\n")  # there is an endpoint, and a limit has a rule
    writer.writeheader()
    for one in each:
        writer.writerow({key: str(value).lower() if isinstance(value, bool) else value for key, value in one.items()})
    return text.getvalue()


PAGE = Page("/compliance", "Compliance", "compliance.html", context, command="rlm compliance", label="Compliance")
