"""The rules of budgets: each is named by an endpoint and each name is one of them, told apart from the endpoints'."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.settings.faults import close_match, did_you_mean
from rlm.settings.sharing import endpoint_places
from rlm.settings.toml import dotted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.settings.faults import Fault, Sound
    from rlm.settings.layers import Place


def budget_faults(sound: Sound) -> Iterator[Fault]:
    """Check that every budget that is named exists, that every one that exists is named, and no endpoint's name is."""
    budgets = sound.layers.budgets
    named: set[str] = set()
    endpoints: dict[str | None, Place] = {}
    for place in endpoint_places(sound):
        endpoints.setdefault(sound.find((*place, "name")), place)
        wanted = (*place, "budget")
        budget = sound.find(wanted)
        if budget is None:
            continue
        named.add(budget)
        if budget not in budgets:
            yield sound.fault(wanted, _unknown(budget, budgets))
    for name in budgets:
        place = ("budgets", name)
        if sound.find(place) is None:
            continue
        if name in endpoints:
            problem = f"an endpoint has this name; give one of them another (see {dotted(endpoints[name])})"
            yield sound.fault(place, problem)
        elif name not in named:
            problem = "no endpoint names this budget, so it would limit nothing; name it or take it out"
            yield sound.fault(place, problem)


def _unknown(budget: str, budgets: dict[str, object]) -> str:
    near = did_you_mean(close_match(budget, budgets))
    return f"there is no such budget{near}; add a table [{dotted(('budgets', budget))}] with its rate_limit"
