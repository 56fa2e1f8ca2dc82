"""What `rlm compliance` tells, flat for a table, and in words. The log itself is read by `rlm.ledger.reading`."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: The columns of the CSV: what is judged, a rule of its limit, and the fullest period of that rule.
COLUMNS = (
    "name",
    "kind",
    "calls",
    "limit",
    "amount",
    "period_seconds",
    "in_force",
    "most",
    "at",
    "exceeded",
    "known_from",
    "until",
)


def rules(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield each rule of each endpoint and budget, with the columns of the CSV."""
    span = {"known_from": found["known_from"], "until": found["until"]}
    for kind in ("endpoint", "budget"):
        for name, one in found[f"by_{kind}"].items():
            for rule in one["rules"]:
                yield {"name": name, "kind": kind, "calls": one["calls"], **rule, **span}


def exceeded(found: Mapping[str, Any]) -> list[str]:
    """Return the endpoints and budgets whose limit was exceeded."""
    return list(dict.fromkeys(one["name"] for one in rules(found) if one["exceeded"]))


def gap(found: Mapping[str, Any]) -> str:
    """Return why not all calls that were asked for are known, and since when; '' if they are."""
    if not found["known_why"]:
        return ""
    return f"{found['known_why']}. Of calls before {found['known_from']} nothing or not all is known."


def as_csv(found: Mapping[str, Any]) -> str:
    """Return the rules as CSV, with a line of headings; truth is `true` or `false`, as in JSON."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for one in rules(found):
        writer.writerow({key: str(value).lower() if isinstance(value, bool) else value for key, value in one.items()})
    return text.getvalue()
