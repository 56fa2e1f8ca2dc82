"""How `rlm doctor` and `rlm test` show what they found: a verdict, a name, what was seen and what to do."""

from __future__ import annotations

import shutil
from textwrap import wrap

from rlm.cli.printing import is_terminal, show, styled
from rlm.core.text import LONGEST_LINE, cut, safe_line

#: What each verdict looks like.
_LOOKS = {"ok": "ok", "warn": "warn", "fail": "error"}
#: Columns of the verdict, the most of names on a terminal, and the fewest left for what was found, however narrow.
_VERDICT_WIDTH = 4
_NAMES_WIDTH = 18
_LEAST_WIDTH = 40


def show_verdict(verdict: str, name: str, message: str, remedy: str, names: int) -> None:
    """Print a finding, and under it the remedy, if there is one; on a terminal wrapped in their column.

    `names` is how long the longest name is.
    """
    width = 0
    if is_terminal():
        names = min(names, _NAMES_WIDTH)
        width = max(_LEAST_WIDTH, shutil.get_terminal_size().columns - _VERDICT_WIDTH - names - 4)
    first, *told = _columns(safe_line(name), message, remedy, names, width)
    show(f"{styled(f'{verdict:<{_VERDICT_WIDTH}}', _LOOKS[verdict])}  {first}")
    for line in told:
        show(f"{'':<{_VERDICT_WIDTH + names + 4}}{line}")


def _columns(name: str, message: str, remedy: str, names: int, width: int) -> list[str]:
    """Lay out a finding: the first line has its name, and what was found where there is room beside it."""
    told = _lines(message, width)
    remedies = _lines(remedy, width - 2 if width else 0) if remedy else []
    told += [f"{'  ' if number else '> '}{line}" for number, line in enumerate(remedies)]
    return [name, *told] if len(name) > names else [f"{name:<{names}}  {told[0]}", *told[1:]]


def _lines(text: str, width: int) -> list[str]:
    """Wrap a text, at words where that can be; without a width it stays one line."""
    line = cut(safe_line(text), LONGEST_LINE)
    return (wrap(line, width, break_on_hyphens=False) if width else [line]) or [""]
