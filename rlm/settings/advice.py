"""What is allowed in a configuration and hardly meant: values that do not go together, and variables without effect."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from rlm.core.endpoint import all_limited
from rlm.settings.document import SECTIONS, fields_at
from rlm.settings.sources import variable_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rlm.settings import Settings


def warnings_of(settings: Settings, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return a sentence for each, with the key, the value and what it means. No value that may be secret is in them."""
    return [*_long_calls(settings), *_long_guard(settings), *_short_variables(settings, environ)]


def _long_calls(settings: Settings) -> Iterator[str]:
    """Yield the types of which a run cannot make a single call, or not by its target."""
    run = settings.run
    planned = run.target * run.window_seconds
    for one in settings.event_types:
        called = f"types.{one.name}.processing_seconds = {one.processing_seconds:g}"
        if one.processing_seconds >= run.window_seconds:
            yield f"{called}: no call is expected to be answered in a run, run.window_seconds = {run.window_seconds:g}"
        elif one.processing_seconds > planned:
            yield f"{called}: run.target = {run.target:g} is {planned:g} s of the window, which holds no such call"


def _long_guard(settings: Settings) -> Iterator[str]:
    """Yield the limits of which the guard takes half or more: calls are kept a period and the guard apart."""
    guard_seconds = settings.run.guard_seconds
    for one in all_limited(settings.endpoints.values()):
        shortest = min(rule.seconds for rule in one.limit.rules)
        if guard_seconds >= shortest:
            yield (
                f"run.guard_seconds = {guard_seconds:g}: the limit of {one.name}, {one.limit.text}, has a period of "
                f"{shortest:g} s; with the guard at most {shortest / (shortest + guard_seconds):.0%} of it is used"
            )


def _short_variables(settings: Settings, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the variables that would set something if they had two underscores where they have one."""
    tables: list[tuple[str, ...]] = [(name,) for name in SECTIONS]
    tables += [("types", name) for name in settings.types]
    known = [variable_name((*table, key)) for table in tables for key in fields_at(table) if key != "endpoints"]
    meant = {_squeezed(name): name for name in known}
    for variable in sorted(environ):
        name = meant.get(_squeezed(variable.upper()))
        if name and "__" not in variable:
            yield f"environment {variable}: sets nothing; {name} would, with two underscores"


def _squeezed(name: str) -> str:
    return re.sub("_+", "_", name)
