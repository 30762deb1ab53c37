"""The figures of the tuning benchmark: profiles, bands of rates, learning curves."""

import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from adaptax.bench.tuning import protocol
from adaptax.bench.tuning.methods import METHODS
from adaptax.bench.tuning.populations import EVERY
from adaptax.bench.tuning.results import TUNED, Results

NAMED = 8
"""The number of methods with a colour and a name, the best ones; others are grey."""


def draw_figures(results: Results, out: Path) -> None:
    """Write `tuning-profiles.png`, `tuning-bands.png` and `tuning-curves.png`."""
    for name, draw in {
        "profiles": _profiles,
        "bands": _bands,
        "curves": _curves,
    }.items():
        draw(results).savefig(out / f"tuning-{name}.png", dpi=110)


def _colours(results: Results) -> dict[str, str]:
    named = [name for name in results.methods() if name not in (TUNED, "adamw")]
    palette = {name: f"C{index}" for index, name in enumerate(named[:NAMED])}
    return {TUNED: "black", "adamw": "C9", **palette}


def _profiles(results: Results) -> Figure:
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    colours, taus = _colours(results), np.linspace(1, protocol.LIMIT, 301)
    clocks = {"steps": results.steps, "seconds": results.seconds}
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (clock, times) in zip(panels, clocks.items(), strict=True):
        ratios = protocol.ratios_to_fastest(times)
        for name in reversed(results.methods()):
            style = {
                "color": colours.get(name, "0.85"),
                "zorder": 1 + (name in colours),
            }
            label = name if name in colours else None
            axes.step(
                taus,
                protocol.profile(ratios[name], taus),
                where="post",
                label=label,
                **style,
            )
        axes.set(xlabel=f"τ, in {clock} of the fastest", xlim=(1, protocol.LIMIT))
    panels[0].set(ylabel="share of problems solved within τ", ylim=(0, 1.02))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside right upper", fontsize="small", reverse=True
    )
    return figure


def _bands(results: Results) -> Figure:
    names = [name for name in results.methods() if name in results.bands]
    figure = Figure(figsize=(8, 1.5 + 0.25 * len(names)), layout="constrained")
    axes = figure.subplots()
    tasks = sorted({task for name in names for task in results.bands[name]})
    for index, task in enumerate(tasks):
        axes.plot([], [], color=f"C{index}", linewidth=2, label=task)
    for height, name in enumerate(reversed(names)):
        for task, found in results.bands[name].items():
            index = tasks.index(task)
            place = height + 0.3 - 0.6 * (index + 0.5) / len(tasks)
            ends = np.array([found.low, found.high]) / METHODS[name].rate
            axes.plot(ends, [place, place], color=f"C{index}", linewidth=2)
            axes.plot(found.best / METHODS[name].rate, place, ".", color="0.2", ms=3)
    axes.axvline(1, color="0.8", zorder=0)
    axes.set(
        xscale="log",
        xlabel="rate / default rate whose best loss is within 5 % of the least",
        yticks=range(len(names)),
        yticklabels=list(reversed(names)),
    )
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def _curves(results: Results) -> Figure:
    colours = _colours(results)
    columns = min(4, len(results.places))
    rows = math.ceil(len(results.places) / columns)
    figure = Figure(figsize=(3.4 * columns, 2.6 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, place in zip(panels, results.places, strict=False):
        target = results.targets[place]
        for name, colour in colours.items():
            method, rate = (
                (target.method, target.rate)
                if name == TUNED
                else (name, METHODS[name].rate)
            )
            curve = np.median(results.curves[place][method][rate], axis=0)
            steps = EVERY * np.arange(1, len(curve) + 1)
            axes.plot(steps, curve, color=colour, label=name, linewidth=1)
        axes.axhline(target.loss, color="0.5", linestyle=":", zorder=0)
        axes.set(title=", ".join(place), xscale="log")
        if target.loss > 0:
            axes.set(yscale="log", ylim=(target.loss / 1.3, None))
    for axes in panels[len(results.places) :]:
        axes.remove()
    figure.suptitle("Validation loss by step; dotted, the target", fontsize="medium")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5)
    return figure
