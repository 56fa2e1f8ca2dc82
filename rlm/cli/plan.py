"""`rlm plan`: forecast a run for what waits or for given counts, with today's settings and with others."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from rlm.cli.common import examples, opened
from rlm.cli.completion import setting_values, type_counts, type_names
from rlm.cli.options import WholeNumber, config_option, json_option
from rlm.cli.plan_text import compare, describe, show_windows
from rlm.cli.printing import print_json, say, show, show_words
from rlm.core.text import one_line, span

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rlm.admin.planning import Arrivals
    from rlm.admin.whatif import Case, Forecast
    from rlm.ledger import Store
    from rlm.ledger.reading.backlog import Backlog
    from rlm.settings import Settings

#: The most windows to look ahead.
MOST_WINDOWS = 10_000
#: The most events to plan for: every reader of the JSON can hold this number.
MOST_EVENTS = 10**15
_DIGITS = len(str(MOST_EVENTS))
#: Characters of a wrong number that are shown.
_SHOWN = 60
#: Settings that do not influence a plan: the store, the intake, and calls that fail for good.
_APART = re.compile(r"(redis|queue)\..*|run\.history|retry\.(max_runs|timeout_seconds)|.*\]\.timeout_seconds")
#: Settings without influence if the number of workers is given.
_WORKERS = ("workers.min", "workers.max")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the options of `rlm plan` ask for; the fields have the names of the options' values."""

    counts: tuple[str, ...]
    workers: int | None
    told: tuple[str, ...]
    add: tuple[str, ...]
    windows: int | None
    arriving: tuple[str, ...]


@click.command(
    epilog=examples(
        "rlm plan",
        "rlm plan --count REBALANCE_NEEDED=500 --add-endpoint REBALANCE_NEEDED",
        "rlm plan --set types.REBALANCE_NEEDED.rate_limit=60/minute --workers 10",
        "rlm plan --windows 20 --arrivals REBALANCE_NEEDED=400",
    )
)
@click.option(
    "--count",
    "counts",
    multiple=True,
    metavar="TYPE=N",
    shell_complete=type_counts,
    help="Plan for N events of a type; repeatable.",
)
@click.option("--workers", type=WholeNumber(min=1), metavar="N", help="What if there were exactly N workers?")
@click.option(
    "--set",
    "told",
    multiple=True,
    metavar="KEY=VALUE",
    shell_complete=setting_values,
    help="What if a setting had this value? Repeatable.",
)
@click.option(
    "--add-endpoint",
    "add",
    multiple=True,
    metavar="TYPE",
    shell_complete=type_names,
    help="What if a type had one more endpoint? Repeatable.",
)
@click.option(
    "--windows",
    type=WholeNumber(1, MOST_WINDOWS),
    metavar="N",
    help="How do the leftovers develop over the next N windows?",
)
@click.option(
    "--arrivals",
    "arriving",
    multiple=True,
    metavar="TYPE=N",
    shell_complete=type_counts,
    help="With --windows: N events arrive in a window of today; repeatable.",
)
@config_option
@json_option
def plan(*, config: Path | None, as_json: bool, **options: Any) -> None:
    """Forecast a run without starting it: workers, when it is done, what will be left over, what binds.

    Without --count it is for what waits now, leftovers included, as far as the windows of the endpoints are open now.
    With --count it is for those numbers and windows that are all open. Nothing is taken, sent or changed.

    --workers, --set and --add-endpoint ask what would be if; the answer stands beside today's. An added endpoint has
    the limit of its type and an open window. --windows plans one window after the other, each with what the last one
    left over and what arrives meanwhile: as many as in the last 20 runs, or as --arrivals says.
    """
    from rlm.admin.planning import measured_arrivals
    from rlm.settings import load_settings

    asked = Asked(**options)
    settings = load_settings(config)
    numbers = _read_numbers("--count", asked.counts, settings)
    given = _read_numbers("--arrivals", asked.arriving, settings)
    for name in asked.add:
        _check_type("--add-endpoint", name, settings)
    if given and asked.windows is None:
        raise click.UsageError("--arrivals is for --windows N: what arrives in each of them")
    other = load_settings(config, overrides=asked.told) if asked.told else settings
    if asked.workers:
        _check_workers(asked.workers, other)
    _note_what_is_apart(other, asked.workers)
    with opened(settings) as store:
        cases = _cases(store, other, asked)
        backlog = _counted(numbers, settings) if asked.counts else _waiting(store)
        arrivals = measured_arrivals(store).but(given) if asked.windows else None
    found = [case.forecast(backlog, arrivals, asked.windows or 0) for case in cases]
    _answer(found, backlog, arrivals, as_json=as_json)


def _read_numbers(option: str, texts: tuple[str, ...], settings: Settings) -> dict[str, int]:
    read: dict[str, int] = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        if not name or not (number.isascii() and number.isdecimal()):
            raise click.BadParameter(f"{text!r} is not TYPE=N, for example REBALANCE_NEEDED=200", param_hint=option)
        if len(number) > _DIGITS or int(number) > MOST_EVENTS:
            shown = one_line(text, _SHOWN)
            raise click.BadParameter(f"{shown!r}: at most {MOST_EVENTS:,} events can be planned for", param_hint=option)
        _check_type(option, name, settings)
        if name in read:
            raise click.BadParameter(f"{name!r} is given twice", param_hint=option)
        read[name] = int(number)
    return read


def _check_type(option: str, name: str, settings: Settings) -> None:
    from rlm.settings.faults import close_match, did_you_mean

    if name not in settings.types:
        hint = did_you_mean(close_match(name, settings.types))
        known = ", ".join(one.name for one in settings.event_types)
        raise click.BadParameter(f"{name!r} is not a configured type{hint}; there are {known}", param_hint=option)


def _check_workers(workers: int, settings: Settings) -> None:
    """Refuse more workers than RLM supports; warn about more than `workers.max`."""
    from rlm.settings.model import MOST_WORKERS

    if workers > MOST_WORKERS:
        shown = one_line(f"{workers:,}", _SHOWN)
        most = f"workers.max cannot be more than {MOST_WORKERS:,}; ask for 1 to {MOST_WORKERS:,}"
        raise click.BadParameter(f"{shown}: {most}", param_hint="--workers")
    if workers > settings.workers.max:
        say(f"workers.max is {settings.workers.max:,}: a run takes no more than that until it is raised.")


def _note_what_is_apart(settings: Settings, workers: int | None) -> None:
    from rlm.admin.whatif import told

    for key in told(settings):
        if _APART.fullmatch(key):
            say(f"{key} has no part in a plan: it makes no difference here.")
        elif workers and key in _WORKERS:
            say(f"--workers {workers:,} fixes the number: {key} makes no difference here.")


def _cases(store: Store, settings: Settings, asked: Asked) -> list[Case]:
    """Return today's case, then the hypothetical one if one was asked for."""
    from rlm.admin.planning import start_seconds
    from rlm.admin.whatif import as_it_is, as_it_might_be

    fresh = bool(asked.counts)
    today = as_it_is(store, start_seconds(store), fresh=fresh)
    if not (asked.told or asked.add or asked.workers):
        return [today]
    return [today, as_it_might_be(store, today, settings, asked.add, asked.workers, fresh=fresh)]


def _counted(numbers: Mapping[str, int], settings: Settings) -> Backlog:
    """Return the backlog of given counts: new events, each with its type's priority."""
    from rlm.ledger.reading.backlog import Backlog

    return Backlog.of_counts({one.name: numbers.get(one.name, 0) for one in settings.event_types})


def _waiting(store: Store) -> Backlog:
    from rlm.ledger.reading.backlog import backlog

    found = backlog(store)
    if found.waiting.unread:
        say(
            f"Only the oldest {found.waiting.items:,} items were read; {found.waiting.unread:,} more wait and are not "
            "planned for."
        )
    return found


def _answer(found: list[Forecast], backlog: Backlog, arrivals: Arrivals | None, *, as_json: bool) -> None:
    today, last = found[0], found[-1]
    asked = last is not today
    if as_json:
        beside = {"what_if": last.case.assumed(), "today": today.as_json()} if asked else {}
        print_json(last.as_json() | beside)
        return
    if last.open_run:
        window = span(last.case.settings.run.window_seconds)
        show_words(f"A run is open (`rlm status`); this plans a new window of {window} for what waits now.")
        show()
    if asked:
        compare(today, last, backlog.waiting)
    else:
        describe(today, backlog.waiting)
    if arrivals:
        show_windows(last, arrivals, today if asked else None)
