"""The picture in docs/performance.md: seconds for 1 GiB, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_PANELS = (
    "s3 save / stub / 1024",
    "s3 load / stub / 1024",
    "disk save / disk / 1024",
    "disk load / disk / 1024",
)
_OURS, _THEIRS = "#1f6f8b", "#c8ccd0"


def draw(results: Mapping[str, Any], path: Path) -> bool:
    """Draw what was measured of the four panels; False where there is nothing of them."""
    records = {record["name"]: record for record in results["comparisons"]}
    panels = [records[name] for name in _PANELS if name in records]
    if panels:
        _draw(panels, path)
    return bool(panels)


def _draw(panels: Sequence[Mapping[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    heights = [len(panel["outcomes"]) for panel in panels]
    figure, all_axes = plt.subplots(
        len(panels), 1, figsize=(8, 0.32 * sum(heights) + 0.7 * len(panels)),
        gridspec_kw={"height_ratios": heights}, squeeze=False, layout="constrained",
    )  # fmt: skip
    for axes, panel in zip(all_axes[:, 0], panels, strict=True):
        ranked = sorted(panel["outcomes"], key=lambda outcome: -min(outcome["seconds"]))
        names = [outcome["contender"].removeprefix(f"{panel['act']}: ") for outcome in ranked]
        best = [min(outcome["seconds"]) for outcome in ranked]
        colours = [_OURS if name.startswith("ckptstore") else _THEIRS for name in names]
        bars = axes.barh(names, best, color=colours)
        axes.bar_label(bars, labels=[f"{seconds:.2f} s" for seconds in best], padding=3, fontsize=8)
        axes.set_title(
            f"{panel['act']}, 1 GiB, {panel['service']}: best of {panel['rounds']}", fontsize=9, loc="left"
        )
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
