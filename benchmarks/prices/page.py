"""The price list in words and numbers: its tables, where RLM is worse than its peers, and a plot."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from benchmarks.prices.throughput import Spent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.prices.idle import Idle

_COLUMNS = {
    "rate": ("events/s", "{:,.0f}"),
    "first_call": ("first call, s", "{:.2f}"),
    "cpu": ("CPU ms per event, all its processes", "{:.2f}"),
    "workers": ("workers alone", "{:.2f}"),
    "redis": ("Redis CPU ms per event", "{:.2f}"),
    "commands": ("Redis commands per event", "{:.1f}"),
}
#: Figures of which more is better.
_GAINS = {"rate"}


def spent_table(title: str, rows: Mapping[str, Sequence[Spent]]) -> str:
    """Return a table line for each row of runs: the medians, and the minimum and maximum of the rate."""
    head = [title, *(name for name, _ in _COLUMNS.values()), "events/s, least to most"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, runs in rows.items():
        median, rates = Spent.median(runs), [one.rate for one in runs]
        cells = [shape.format(getattr(median, field)) for field, (_, shape) in _COLUMNS.items()]
        lines.append(f"| {name} | {' | '.join(cells)} | {min(rates):,.0f} to {max(rates):,.0f} |")
    return "\n".join(lines)


def where_worse(rows: Mapping[str, Sequence[Spent]], own: str = "rlm") -> Iterator[str]:
    """Yield every figure in which a rival is better."""
    medians = {name: Spent.median(runs) for name, runs in rows.items()}
    for name, one in medians.items():
        for field, (title, shape) in _COLUMNS.items():
            ours, theirs = getattr(medians[own], field), getattr(one, field)
            if name != own and (ours < theirs if field in _GAINS else ours > theirs):
                times = max(ours, theirs) / min(ours, theirs)
                yield f"{title}: {shape.format(ours)} where `{name}` has {shape.format(theirs)} ({times:.2f} times)"


def idle_table(idle: Idle) -> str:
    """Return the cost of idle workers."""
    figures = {
        "Redis commands/s": f"{idle.commands:.1f}",
        "% of a core, RLM": f"{100 * idle.rlm:.2f}",
        "% of a core, Redis": f"{100 * idle.redis:.2f}",
        "scheduler, MB": f"{idle.scheduler:.0f}",
        "supervisor, MB": f"{idle.supervisor:.0f}",
        "template, MB": f"{idle.template:.0f}",
        "a worker, MB": f"{idle.worker:.1f}",
        "all, MB": f"{idle.total:.0f}",
    }
    return f"| {' | '.join(figures)} |\n|{'---|' * len(figures)}\n| {' | '.join(figures.values())} |"


def start_table(imports: float, starts: Mapping[str, float]) -> str:
    """Return how long starts take, in seconds and as multiples of the import."""
    lines = ["| | first call, s | times the import |", "|---|---|---|", f"| the import | {imports:.2f} | 1 |"]
    lines += [f"| {name} | {seconds:.2f} | {seconds / imports:.2f} |" for name, seconds in starts.items()]
    return "\n".join(lines)


def plot(rows: Mapping[str, Sequence[Spent]]) -> str:
    """Return an SVG: a panel for each figure, a line for each contender, a dot for each run, RLM in blue."""
    panels = [name for name in _COLUMNS if name != "first_call"]
    parts = [part for place, field in enumerate(panels) for part in _panel(field, rows, place)]
    height = len(panels) * _panel_height(rows) + 10
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 {height}" font-family="sans-serif" font-size="11">'
    )
    return "\n".join([head, f'<rect width="640" height="{height}" fill="white"/>', *parts, "</svg>\n"])


def _panel_height(rows: Mapping[str, Sequence[Spent]]) -> int:
    return 34 + 18 * len(rows)


def _panel(field: str, rows: Mapping[str, Sequence[Spent]], place: int) -> Iterator[str]:
    title, shape = _COLUMNS[field]
    top = place * _panel_height(rows) + 20
    most = max(getattr(one, field) for runs in rows.values() for one in runs) or 1
    yield f'<text x="10" y="{top}" font-weight="bold">{escape(title)}</text>'
    for line, (name, runs) in enumerate(rows.items(), start=1):
        y = top + 18 * line
        colour = "#1f77b4" if name == "rlm" else "#7f7f7f"
        median = getattr(Spent.median(runs), field)
        yield f'<text x="10" y="{y}">{escape(name)}</text>'
        yield f'<rect x="100" y="{y - 8}" width="{420 * median / most:.1f}" height="6" fill="{colour}" opacity="0.5"/>'
        for one in runs:
            yield f'<circle cx="{100 + 420 * getattr(one, field) / most:.1f}" cy="{y - 5}" r="3" fill="{colour}"/>'
        yield f'<text x="535" y="{y}">{shape.format(median)}</text>'
