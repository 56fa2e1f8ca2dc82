"""A run, open or finished, as it is printed: a picture on a terminal, else text, or its document."""

from __future__ import annotations

from typing import Any

from rlm.cli.common import ExitCode
from rlm.cli.following import picture_of, show_picture
from rlm.cli.printing import is_terminal, print_json, say_error, show, show_words, table
from rlm.core.run import State
from rlm.core.tally import every_call_failed, in_words
from rlm.core.text import counted, span
from rlm.core.window import WELL
from rlm.terminal.words import call_troubles, forecast, troubles, unconducted
from rlm.terminal.words import workers as team


def show_record(found: dict[str, Any], *, as_json: bool) -> None:
    """Print a record as its document, as a picture where that can be drawn, else as text."""
    if as_json:
        print_json(found)
    elif is_terminal():
        show_picture(picture_of(found))
    else:
        describe(found)


def tell(record: dict[str, Any], *, as_json: bool, waited: bool = False) -> None:
    """Print a record; a run that failed makes the command fail, where it `waited` one in which every call did as well.

    Raises:
        SystemExit: it did.
    """
    show_record(record, as_json=as_json)
    if waited and every_call_failed(record):
        say_error(f"every call of run {record['run_id']} failed: {in_words(record.get('troubles', ()))}")
        raise SystemExit(int(ExitCode.FAILED))
    if record["state"] == State.FAILED:
        say_error(f"run {record['run_id']} failed: {record['failure']}")
        raise SystemExit(int(ExitCode.FAILED))


def describe(found: dict[str, Any]) -> None:
    """Print a run, open or finished, for a person."""
    took = f"{span(found['duration_seconds'])}"
    left = f", {span(found['seconds_left'])} left" if "seconds_left" in found else f" after {took}"
    show_words(f"Run {found['run_id']} ({found['trigger']}): {found['state']}{left}")
    if why := unconducted(found):
        show_words(_sentence(why))
    _describe_plan(found)
    _describe_types(found)
    _describe_calls(found)


def _describe_plan(found: dict[str, Any]) -> None:
    plan, workers, counts = found["plan"], found["workers"], found["counts"]
    done = (
        f"done {plan['forecast_seconds']:.1f} s after the first call (with the most workers no schedule could before "
        f"{plan['lower_bound_seconds']:.1f} s)"
    )
    show_words(f"Planned: {done if plan['forecast_seconds'] else 'no call'}, {plan['expected_leftover']} left over")
    if "forecast" in found:
        now = found["forecast"]
        expected = forecast(found).words
        show_words(f"By now: {expected}, with {counted(now['workers'], 'worker')}. {_sentence(now['binds'])}")
    for one in call_troubles(found) if "seconds_left" in found else troubles(found):
        show_words(_sentence(one))
    show_words(
        f"Workers: {plan['workers']} planned, of {plan['threads']} lanes each; {workers['peak']} at the most, "
        f"{workers['restarted']} replaced"
    )
    if workers.get("other_configuration"):
        show_words(f"By now {team(found)}.")
    show_words(f"Intake: {counts['invalid']} invalid, {counted(counts['duplicates'], 'duplicate')}")


def _describe_types(found: dict[str, Any]) -> None:
    columns = ["taken", "carried_over", "completed", "failed", "leftover"]
    headings = ["still to do" if name == "leftover" and "seconds_left" in found else name for name in columns]
    rows = [[name, *(str(entry[key]) for key in columns)] for name, entry in found["by_type"].items()]
    show()
    table(["type", *headings], [*rows, ["in all", *(str(found["counts"][key]) for key in columns)]])


def _describe_calls(found: dict[str, Any]) -> None:
    called = ["calls", "completed", "throttled", "errors", "peak_in_window", "limit"]
    by_budget = found.get("by_budget", {})
    _table_by("endpoint", found["by_endpoint"], [*called, "p50_ms", "p95_ms"])
    if by_budget:
        _table_by("budget", by_budget, called)
    resting = [
        f"{name} is {entry['health']}"
        for name, entry in [*found["by_endpoint"].items(), *by_budget.items()]
        if entry.get("health", "ok") not in WELL
    ]
    if resting:
        show()
        show_words(f"{', '.join(resting)}: see `rlm endpoint list`")


def describe_rest(found: dict[str, Any]) -> None:
    """Print for a person how things stand while no run is open."""
    from rlm.terminal.rest import rest_rows  # noqa: PLC0415  # only where it is printed

    show_words("No run is open.")
    for name, told in rest_rows(found):
        show(f"{name:<12}  {told.plain}")


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def _table_by(what: str, entries: dict[str, dict[str, Any]], keys: list[str]) -> None:
    show()
    table([what, *keys], [[name, *(str(entry[key]) for key in keys)] for name, entry in entries.items()])
