"""What became of a run beside its plan, and what went wrong in it, in sentences and as a list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlm.admin.words import calls_in_all, is_open
from rlm.core import tally
from rlm.core.text import counted, safe_line, span

if TYPE_CHECKING:
    from collections.abc import Mapping


def against_plan(found: Mapping[str, Any]) -> dict[str, str]:
    """Return what was `planned` for a run, and if it has ended what came of it `in fact`."""
    plan, team = found["plan"], found["workers"]
    done = f"done {span(plan['forecast_seconds'])} after the first call" if plan["forecast_seconds"] else "no call"
    told = {"planned": f"{counted(plan['workers'], 'worker')}, {done}, {_left(plan['expected_leftover'])}"}
    if "finished_at" in found:
        actual = f"done {span(plan['actual_seconds'])} after it" if "actual_seconds" in plan else "no call completed"
        left = _left(found["counts"]["leftover"])
        told["in fact"] = f"{counted(team['peak'], 'worker')}, {actual}, {left}; {team['restarted']} replaced"
    return told


def _left(number: int) -> str:
    return f"{number:,} left over" if number else "nothing left over"


def used(record: Mapping[str, Any]) -> str:
    """Return the utilisation of a run and the age of its answers, '' if they are not known."""
    if (one := record.get("used")) is None:
        return ""
    ages = f"{span(one['answered_p50_seconds'])}, 19 of 20 in {span(one['answered_p95_seconds'])}"
    return (
        f"{one['calls_per_minute']:,.0f} calls a minute; {one['lanes']:.0%} of the lanes' time and {one['slots']:.0%} "
        f"of the slots used; half were answered in {ages} from intake"
    )


def troubles(record: Mapping[str, Any]) -> list[str]:
    """Return why a finished run left events over, which calls failed, and its dead letters."""
    told = [safe_line(one["sentence"]) for one in record.get("why", ())]
    told += call_troubles(record)
    failed, invalid = record["counts"]["failed"], record["counts"]["invalid"]
    if dead := failed + invalid:
        became = "1 became a dead letter" if dead == 1 else f"{dead:,} became dead letters"
        some = f"{invalid:,} of them " if failed else ""
        at_intake = f", {some}at intake, which counts as invalid and not as failed" if invalid else ""
        told.append(f"{became}{at_intake}: `rlm failed list` says why")
    return told


def troubles_by_part(found: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Return the troubles of an open or a finished run as a list: each in a few words, and the parts that it has."""
    told: list[tuple[str, list[str]]] = []
    if not is_open(found):
        told += [(safe_line(one["sentence"]), []) for one in found.get("why", ())]
    if number := number_failed(found):
        each = tally.each_in_words(found.get("troubles", ()), addresses=False)
        told.append((number, [safe_line(one) for one in each]))
    return [*told, *((safe_line(one), []) for one in too_high(found))]


def call_troubles(found: Mapping[str, Any]) -> list[str]:
    """Return what went wrong with a run's calls, and which limits are too high."""
    return [*filter(None, [failed_calls(found)]), *map(safe_line, too_high(found))]


def too_high(found: Mapping[str, Any]) -> list[str]:
    """Return the limits that are higher than what the endpoint takes, and what sets them right."""
    return [
        f"a limit is too high: {one['sentence']}; {one['remedy']} sets it" for one in found.get("limits_too_high", ())
    ]


def failed_calls(found: Mapping[str, Any]) -> str:
    """Return how many of a run's calls failed or were throttled, and why; '' if none."""
    why = tally.in_words(found.get("troubles", ()))  # records of older versions have none
    return "".join([number, f": {safe_line(why)}" if why else ""]) if (number := number_failed(found)) else ""


def number_failed(found: Mapping[str, Any]) -> str:
    """Return how many of a run's calls failed or were throttled; '' if none."""
    calls, errors, throttled = calls_in_all(found)
    became = " or ".join(word for word, number in (("failed", errors), ("were throttled", throttled)) if number)
    return f"{errors + throttled:,} of {counted(calls, 'call')} {became}" if became else ""
