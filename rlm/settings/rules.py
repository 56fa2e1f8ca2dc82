"""The rules between settings. Each looks only at values right by themselves, so that all faults come at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rlm.settings.budgets import budget_faults
from rlm.settings.faults import Fault, Sound
from rlm.settings.layers import leaves
from rlm.settings.masking import FROM_ENVIRONMENT
from rlm.settings.sharing import endpoint_faults
from rlm.settings.toml import dotted
from rlm.settings.values import check_header_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rlm.settings.layers import Layers, Place

#: Ten shares of 0.1 are 1, whatever floating point makes of them.
_ROUNDING = 1e-9


def rule_faults(layers: Layers, faulty: frozenset[Place], environ: Mapping[str, str]) -> Iterator[Fault]:
    """Check what concerns several settings, or a setting and the environment. `faulty` places are left out."""
    sound = Sound(layers, faulty)
    yield from _at_most(sound, ("run", "window_seconds"), ("run", "every_seconds"))
    yield from _at_most(sound, ("workers", "min"), ("workers", "max"))
    yield from _list_names(sound)
    yield from _header_variables(sound, environ)
    yield from _shares(sound)
    yield from endpoint_faults(sound)
    yield from budget_faults(sound)


def _at_most(sound: Sound, low: Place, high: Place) -> Iterator[Fault]:
    """Report the one that was set, when only one of the two was."""
    lower, upper = sound.find(low), sound.find(high)
    if lower is None or upper is None or lower <= upper:
        return
    if sound.layers.where(low) == "default":
        yield sound.fault(high, f"must be at least {dotted(low)}, which is {lower:g} ({sound.layers.where(low)})")
    else:
        yield sound.fault(low, f"must be at most {dotted(high)}, which is {upper:g} ({sound.layers.where(high)})")


def _list_names(sound: Sound) -> Iterator[Fault]:
    prefix = sound.find(("redis", "prefix"))
    seen: dict[str, Place] = {}
    for place in (("queue", key) for key in ("events", "processing", "failed")):
        name = sound.find(place)
        if name is None:
            continue
        if prefix is not None and name.startswith(f"{prefix}:"):
            yield sound.fault(
                place, f"must not begin with {prefix + ':'!r}, where RLM keeps its own keys (redis.prefix)"
            )
        if name in seen:
            yield sound.fault(place, f"must be another list than {dotted(seen[name])}")
        seen.setdefault(name, place)


def _shares(sound: Sound) -> Iterator[Fault]:
    """Report the type whose share is the first that does not fit any more, with what is given away before it."""
    given: dict[str, float] = {}
    for name in sound.layers.types:
        place = ("types", name, "share")
        share = sound.find(place)
        if not share:
            continue
        given[name] = share
        if math.fsum(given.values()) > 1 + _ROUNDING:
            together = " + ".join(f"{name} {share:g}" for name, share in given.items())
            yield sound.fault(place, f"the shares of all types must be at most 1 together; {together} is more")
            return


def _header_variables(sound: Sound, environ: Mapping[str, str]) -> Iterator[Fault]:
    for place, _ in leaves(sound.layers.types, ("types",)):
        value = sound.find(place) if "headers" in place[2:] else None
        if not isinstance(value, str) or not value.startswith(FROM_ENVIRONMENT):
            continue
        variable = value.removeprefix(FROM_ENVIRONMENT)
        secret = environ.get(variable)
        if not secret:
            yield sound.fault(
                place, f"header {place[-1]}: the environment variable {variable} is not set or empty; set it"
            )
        elif problem := _header_problem(secret):
            yield sound.fault(place, f"header {place[-1]}: what the environment variable {variable} holds: {problem}")


def _header_problem(secret: str) -> str:
    try:
        check_header_text(secret)
    except ValueError as error:
        return str(error)
    return ""
