"""The sentence of what binds a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rlm.core.text import counted
from rlm.core.window import Circuit
from rlm.plan.binds import (
    CallsUnderWayBind,
    DeadlineBinds,
    DoneEarly,
    FailingCallsBind,
    LastCallDecides,
    LimitsBind,
    NothingToDo,
    WorkersBind,
)
from rlm.plan.window import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rlm.plan.binds import Binding, MoreEndpoints, ShutWindow

#: At most so many shut endpoints and budgets of a kind are named.
MOST_NAMED: Final = 3

_SHUT: Final[Mapping[str, tuple[str, str]]] = {
    Circuit.PROBING: ("is not counted on until it answers well", "are not counted on until they answer well"),
    "endless": ("is paused until resumed", "are paused until resumed"),
    Circuit.PAUSED: ("is paused until {}", "are paused until {} at the latest"),
    Circuit.HELD: ("is held until {}", "are held until {} at the latest"),
    Circuit.RESTING: ("rests until {}", "rest until {} at the latest"),
}
_ORDINALS: Final = ("", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


def binding_sentence(binding: Binding) -> str:
    """Return what binds in one sentence, without its full stop."""
    match binding:
        case NothingToDo(under_way):
            told = f"nothing binds: {'the last calls are under way' if under_way else 'there is nothing to do'}"
        case DoneEarly():
            done = f"with {counted(binding.workers, 'worker')} all is done at {_clock(binding.end)}"
            target, soonest = _clock(binding.target), _clock(binding.soonest)
            told = f"nothing binds: {done}, before the target of {target}; with more it could be {soonest}"
        case LastCallDecides():
            begun = f"begins at {_clock(binding.begins)} and takes {_seconds(binding.takes)}"
            told = f"nothing binds: the last call, of {binding.type}, {begun}"
        case WorkersBind():
            told = _workers_bind(binding)
        case FailingCallsBind():
            attempts = f"{binding.attempts} attempts" if binding.attempts > 1 else "the only attempt"
            told = f"failing calls bind: {_events(binding.events)} expected to fail in {attempts}"
        case CallsUnderWayBind(events):
            told = f"calls under way bind: {_events(events)} not expected to be answered before the deadline"
        case DeadlineBinds():
            time, types = _seconds(binding.time), _types(binding.types)
            told = f"the deadline binds: in {time} there is no time for a call of {types}"
        case LimitsBind():
            told = _left_by_limits(binding) if binding.leftover else _delayed_by_limits(binding)
    return told


def _workers_bind(binding: WorkersBind) -> str:
    most = counted(binding.most, "worker") + (" (the maximum)" if binding.are_maximum else "")
    if binding.leftover:
        now, better = f"{binding.leftover:,} are left over", f"{binding.least:,}"
    else:
        now, better = f"all is done at {_clock(binding.end)}", _clock(binding.soonest)
    return f"workers bind: with {most} {now}; with more it could be {better}"


def _left_by_limits(binding: LimitsBind) -> str:
    change = "however many workers" if binding.least is None else f"with more workers {binding.least:,}"
    result = f"{binding.leftover:,} will be left over, {change}"
    probed = [one.name for one in binding.shut if one.reason is Circuit.PROBING]
    if binding.unreachable and probed:
        # Calls go there one at a time, and the first good answer opens it: that there is none is an assumption.
        others = [one for one in binding.shut if one.reason is not Circuit.PROBING]
        assumed = f"no call to {_probed(probed)} is counted on until a probe is answered well: unless one is"
        return f"{assumed}, {result}{_shut(others)}"
    advice = ""
    if more := binding.more_endpoints:
        advice = f"; {_more(more)} would leave {f'{more.leave:,}' if more.leave else 'none over'}"
    return f"{_who_binds(binding)} until the deadline at {_clock(binding.until)}: {result}{advice}{_shut(binding.shut)}"


def _probed(names: list[str]) -> str:
    if len(names) > MOST_NAMED:
        names = [names[0], f"{len(names) - 1:,} more"]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _delayed_by_limits(binding: LimitsBind) -> str:
    change, besides = "more workers change nothing", ""
    end, soonest = _clock(binding.end), _clock(binding.soonest)
    if soonest != end:
        change, besides = f"with more workers the end could be {soonest} instead of {end}", "they and "
    advice = ""
    if more := binding.more_endpoints:
        advice = f"; {besides}{_more(more)} would finish at {_clock(more.end)}"
    binds = _budgets_bind(binding.budgets) if binding.by_budget else _limits_bind(binding.by_limit)
    return f"{binds} until {_clock(binding.until)}; {change}{advice}{_shut(binding.shut)}"


def _who_binds(binding: LimitsBind) -> str:
    by_limit, by_budget = binding.by_limit, binding.by_budget
    if binding.unreachable:
        return f"no endpoint of {_types([*by_limit, *by_budget])} can be called"
    if not by_budget:
        return _limits_bind(by_limit)
    budgets = _budgets_bind(binding.budgets)
    if not by_limit:
        return budgets
    left_by_budget, left_by_limit = sum(by_budget.values()), sum(by_limit.values())
    return f"{budgets} ({left_by_budget:,} of {_types(by_budget)}) and {_limits_bind(by_limit)} ({left_by_limit:,})"


def _limits_bind(types: Iterable[str]) -> str:
    names = list(types)
    return f"the limit of {_types(names)} binds" if len(names) == 1 else f"the limits of {_types(names)} bind"


def _budgets_bind(budgets: Sequence[str]) -> str:
    first, *others = budgets
    if not others:
        return f"the budget {first} binds"
    return f"the budgets {first} and {others[0] if len(others) == 1 else f'{len(others)} more'} bind"


def _more(more: MoreEndpoints) -> str:
    each = " for each" if more.each else ""
    if more.number > 1:
        return f"{more.number} more overflow endpoints{each}"
    if more.ordinal is None or more.ordinal >= len(_ORDINALS):
        return f"one more overflow endpoint{each}"
    return f"a {_ORDINALS[more.ordinal]} overflow endpoint{each}"


def _shut(windows: Sequence[ShutWindow]) -> str:
    """Name the endpoints and budgets that are shut, and why: that makes a limit tighter than it is."""
    alike: dict[str, list[ShutWindow]] = {}
    for one in windows:
        endless = one.until is None and one.reason is not Circuit.PROBING
        alike.setdefault("endless" if endless else one.reason, []).append(one)
    parts: list[str] = []
    for reason, group in alike.items():
        of_one, of_many = _SHUT[reason]
        if len(group) <= MOST_NAMED:
            parts += [f"{one.name} {of_one.format(_clock(one.until or 0))}" for one in group]
        else:
            last = _clock(max(one.until or 0 for one in group))
            parts.append(f"{group[0].name} and {len(group) - 1:,} more {of_many.format(last)}")
    return f" ({', '.join(parts)})" if parts else ""


def _types(names: Iterable[str]) -> str:
    first, *others = names
    if len(others) > 1:
        return f"{first} and {len(others)} more types"
    return " and ".join([first, *others])


def _events(number: int) -> str:
    return "1 event is" if number == 1 else f"{number:,} events are"


def _seconds(time: int) -> str:
    return f"{time / SECOND:g} s"


def _clock(moment: int) -> str:
    """Write a moment of the run, in minutes and seconds since its start: `1:40`."""
    minutes, seconds = divmod(round(moment / SECOND), 60)
    return f"{minutes}:{seconds:02}"
