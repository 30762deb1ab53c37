"""The figures of the tuning benchmark: ratios of losses, and learning curves."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from adaptax.bench.shared.intervals import interval
from adaptax.bench.tuning import protocol
from adaptax.bench.tuning.methods import OURS
from adaptax.bench.tuning.protocol import LOOKS
from adaptax.bench.tuning.results import TUNED_ADAMW, CaseResults

_SHOWN = (
    OURS[0].name,
    "adamw_average",
    "adamw_average_1e-3",
    "adamw_cosine_1e-3",
    "prodigy_average",
    "prodigy",
)
"""The methods of the figures beside tuned AdamW; the best ones if none of them ran."""

_LARGEST = 3.0
"""The largest ratio in a figure; larger ones are drawn at this edge."""


def draw_figures(
    results: Sequence[CaseResults],
    methods: Sequence[Mapping[str, Any]],
    out: Path,
    suffix: str,
) -> None:
    """Write `tuning-ratios.png` and `tuning-curves.png`, with a suffix in the names."""
    run = [row["method"] for row in methods if row["method"] != TUNED_ADAMW]
    names = [name for name in _SHOWN if name in run] or run[: len(_SHOWN)]
    colours = {name: f"C{index}" for index, name in enumerate(names)}
    _ratios(results, colours).savefig(out / f"tuning-ratios{suffix}.png", dpi=110)
    colours = {TUNED_ADAMW: "black", **colours}
    _curves(results, colours).savefig(out / f"tuning-curves{suffix}.png", dpi=110)


def _ratios(results: Sequence[CaseResults], colours: Mapping[str, str]) -> Figure:
    figure = Figure(figsize=(8, 1.5 + 0.4 * len(results)), layout="constrained")
    axes = figure.subplots()
    for index, (name, colour) in enumerate(colours.items()):
        offset = 0.35 - 0.7 * (index + 0.5) / len(colours)
        for height, result in enumerate(reversed(results)):
            found = interval(result.ratios[name])
            ends = np.minimum([found.low, found.value, found.high], _LARGEST)
            axes.plot(ends[[0, 2]], [height + offset] * 2, color=colour, linewidth=1)
            marker = ">" if found.value > _LARGEST else "."
            axes.plot(ends[1], height + offset, marker, color=colour)
        axes.plot([], [], ".-", color=colour, label=name)
    axes.axvline(1, color="0.6", zorder=0)
    axes.set(
        xscale="log",
        xlabel="test loss at T over that of tuned AdamW with the same seed",
        yticks=range(len(results)),
        yticklabels=[result.name for result in reversed(results)],
    )
    ticks = [tick for tick in (0.3, 0.5, 0.7, 1, 1.5, 2, 3) if tick <= _LARGEST]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
    axes.minorticks_off()
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def _curves(results: Sequence[CaseResults], colours: Mapping[str, str]) -> Figure:
    columns = min(4, len(results))
    rows = math.ceil(len(results) / columns)
    figure = Figure(figsize=(3.4 * columns, 2.6 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, result in zip(panels, results, strict=False):
        for name, colour in colours.items():
            curve = np.median(protocol.smoothed(result.curves[name]), axis=0)
            looks = np.arange(1, len(curve) + 1) / LOOKS
            axes.plot(looks, curve, color=colour, label=name, linewidth=1)
        axes.axhline(result.target, color="0.5", linestyle=":", zorder=0)
        axes.set(title=result.name, xscale="log")
        if result.target > 0:
            axes.set(yscale="log", ylim=(result.target / 1.3, None))
    for axes in panels[len(results) :]:
        axes.remove()
    figure.suptitle(
        "Smoothed validation loss by step over T; dotted, the target", fontsize="medium"
    )
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure
