"""How each program measures and reports: its contenders in turns, so that a slow minute of the machine affects all."""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence

from benchmarks.harness.contenders import Program, Rlm
from benchmarks.harness.processes import NotRunError

Figures = dict[str, float]
Measure = Callable[[Rlm | Program], Figures]


def parser(about: str, rivals: Sequence[Program] = ()) -> argparse.ArgumentParser:
    """Return the options of every program."""
    options = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--repeat", type=int, default=3)
    options.set_defaults(rivals=rivals)
    if rivals:
        names = ["rlm", *(rival.name for rival in rivals)]
        options.add_argument("--contender", choices=names, action="append", help="only this one; may be repeated")
    return options


def report(options: argparse.Namespace, parts: Mapping[str, Measure], computed: Mapping[str, Figures] = {}) -> None:
    """Measure each part for each contender, and print a table of medians for each part.

    `computed` has rows for the tables that nobody measures, by their names; a key of the part precedes each.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that all children are ended
    only = getattr(options, "contender", None)
    contenders = [each for each in (Rlm(), *options.rivals) if not only or each.name in only]
    runs: dict[str, dict[str, list[Figures]]] = {part: {} for part in parts}
    not_run: dict[str, str] = {}
    for number in range(options.repeat):
        for part, measure in parts.items():
            for contender in [each for each in contenders if each.name not in not_run]:
                try:
                    figures = measure(contender)
                except NotRunError as error:
                    not_run[contender.name] = str(error)
                    continue
                runs[part].setdefault(contender.name, []).append(figures)
                print(f"{number + 1} {part} {contender.name} {figures}", file=sys.stderr, flush=True)
    for part, by_name in runs.items():
        rows = {name.removeprefix(f"{part} "): [row] for name, row in computed.items() if name.startswith(f"{part} ")}
        print(f"\n#### {part}\n\n{_table(rows | by_name)}")
    for name, why in not_run.items():
        print(f"\nNot run, or not to the end: `{name}`: {why}")


def _table(rows: Mapping[str, Sequence[Figures]]) -> str:
    """Return a Markdown table of medians, each with the least and the most if it was measured more than once."""
    head = list(dict.fromkeys(title for runs in rows.values() for run in runs for title in run))
    lines = [["contender", *head], ["---"] * (len(head) + 1)]
    for name, runs in rows.items():
        columns = ([run[title] for run in runs if title in run] for title in head)
        lines.append([f"`{name}`", *(_spread(values) if values else "" for values in columns)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _spread(values: Sequence[float]) -> str:
    least, most = min(values), max(values)
    extremes = "" if least == most else f" ({least:.4g} to {most:.4g})"
    return f"{statistics.median(values):.4g}{extremes}"
