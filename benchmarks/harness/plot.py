"""The comparison as a picture: by how much each run exceeded the bound, and its refused calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.harness.report import BOUND, RLM, SCHEDULE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from benchmarks.harness.report import Row


def draw(loads: Mapping[str, Mapping[str, Row]], path: Path) -> None:
    """Draw a panel for each load, a line for each contender, a dot for each run.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib as mpl  # noqa: PLC0415 - it is of the group `bench`, and no other part needs it
    from matplotlib.figure import Figure  # noqa: PLC0415

    mpl.rcParams.update({"svg.hashsalt": "rlm", "svg.fonttype": "none", "font.size": 8})
    figure = Figure(figsize=(9.5, 6.5), layout="constrained")
    panels = figure.subplots(-(-len(loads) // 2), min(2, len(loads)), squeeze=False)
    for panel in panels.flat[len(loads) :]:
        panel.remove()
    for panel, (load, rows) in zip(panels.flat, loads.items(), strict=False):
        _draw_load(panel, load, rows)
    figure.savefig(path, metadata={"Date": None, "Creator": None})


def _draw_load(panel, load: str, rows: Mapping[str, Row]) -> None:
    bound = rows[BOUND].makespan
    panel.set_title(f"{load}: {rows[BOUND].events:,} events, the bound is {bound:.1f} s", loc="left")
    panel.set_xlabel("makespan over the bound")
    panel.axvline(1, color="black", linewidth=0.8)
    if SCHEDULE in rows:
        panel.axvline(rows[SCHEDULE].makespan / bound, color="black", linewidth=0.8, linestyle=":")
    measured = [row for row in reversed(rows.values()) if row.contender not in {BOUND, SCHEDULE}]
    for place, row in enumerate(measured):
        ratios = [one.figures.makespan / bound for one in row.runs]
        colour = "tab:blue" if row.contender == RLM else "tab:gray"
        panel.plot(ratios, [place] * len(ratios), "o-", color=colour, markersize=4)
        said = f"  {row.refused[-1]:,} refused" if row.refused[-1] else ""
        panel.annotate(said, (max(ratios), place), color="tab:red", va="center", fontsize=7)
    panel.set_yticks(range(len(measured)), [row.contender for row in measured])
    panel.set_xlim(left=0.95)
    panel.margins(x=0.15)
    panel.grid(axis="x", linewidth=0.3)
