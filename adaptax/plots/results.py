"""Plots of what the tools found."""

from typing import TYPE_CHECKING

import numpy as np

from adaptax.plots.figures import (
    FAINT,
    median,
    new_figure,
    require_result,
    smooth,
    spans_decades,
)
from adaptax.tuning import (
    BranchResult,
    FinderResult,
    HalvingResult,
    PopulationResult,
    SweepResult,
)
from adaptax.tuning.storage.named_arrays import leaf_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def finder(result: FinderResult) -> "Figure":
    """Plot the smoothed losses by rate, with the suggested rates.

    Thin lines are the seeds, and a thick one is their median. Suggestions are points on
    the median; the recommended one has its spread over the seeds shaded. Losses are
    drawn until they diverge.

    Args:
        result: A result of `find_learning_rate` or `range_test`.
    """
    require_result(result, FinderResult)
    figure = new_figure(7, 4.2)
    axes = figure.subplots()
    rates, curves = result.learning_rates, result.smoothed
    if len(curves) > 1:
        axes.plot(rates, curves.T, color="tab:blue", **FAINT)
    middle = median(curves)
    axes.plot(rates, middle, color="tab:blue", linewidth=2, label="smoothed loss")
    spread = result.spread.get(result.RECOMMENDED)
    if spread is not None and len(curves) > 1:
        axes.axvspan(*spread, color="0.5", alpha=0.15, linewidth=0)
    for index, (name, rate) in enumerate(result.suggestions.items(), start=1):
        if rate is None:
            continue
        best = name == result.RECOMMENDED
        height = np.interp(np.log(rate), np.log(rates), middle)
        if best:
            axes.axvline(rate, color=f"C{index}", linewidth=1, zorder=1)
        label = f"{name}, {rate:.2g}" + (" (suggested)" if best else "")
        size = 11 if best else 8
        axes.plot(
            rate, height, marker="o", color=f"C{index}", ms=size, ls="", label=label
        )
    axes.set(xlabel=result.about["name"].replace("_", " "), ylabel="loss, smoothed")
    axes.set_xscale("log" if result.about["mode"] == "exponential" else "linear")
    axes.set_title(result.message, fontsize="small", wrap=True)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure


def sweep(result: SweepResult, name: str = "learning_rate") -> "Figure":
    """Plot the scores by a hyperparameter, and the best learning curves.

    On the left, points are runs, and the line is the mean over seeds of the best member
    at each value. The region within 5 % of the best is shaded, and crosses mark values
    at which a seed diverged. On the right are the curves of the best five members, with
    quartiles over seeds.

    Args:
        result: A result of `adaptax.sweep`.
        name: The path of the hyperparameter.

    Raises:
        ValueError: If there is no such hyperparameter.
    """
    require_result(result, SweepResult)
    values = leaf_named(result.hparams, name)
    means = result.minimized(result.scores).mean(axis=1)
    figure = new_figure(9, 3.8)
    left, right = figure.subplots(1, 2)
    left.plot(values, result.scores, ".", color="0.6", markersize=4)
    points = np.unique(values)
    best = np.array([means[values == point].min() for point in points])
    best = result.minimized(best)
    finite = np.isfinite(best)
    left.plot(points[finite], best[finite], color="tab:blue", label="mean over seeds")
    if finite.any() and points[0] > 0:
        region = result.good_region(name)
        if region is not None:
            left.axvspan(region.low, region.high, color="tab:blue", alpha=0.15, lw=0)
    if not finite.all():
        bottom = np.full((~finite).sum(), 0.03)
        left.plot(
            points[~finite],
            bottom,
            "x",
            color="tab:red",
            transform=left.get_xaxis_transform(),
            label="diverged",
        )
    left.set(xlabel=name.replace("_", " "), ylabel="score")
    left.set_xscale("log" if points[0] > 0 and len(points) > 2 else "linear")
    left.set_yscale("log" if spans_decades(best) else "linear")
    low, middle, high = (smooth(curve) for curve in result.curves())
    steps = np.arange(1, middle.shape[1] + 1)
    for member in result.ranking[:5]:
        (line,) = right.plot(steps, middle[member], label=f"{values[member]:.2g}")
        right.fill_between(
            steps, low[member], high[member], color=line.get_color(), alpha=0.2, lw=0
        )
    right.set(xlabel="step", ylabel="loss")
    right.set_yscale("log" if spans_decades(middle[result.ranking[:5]]) else "linear")
    right.legend(title=f"best by {name.replace('_', ' ')}", fontsize="small")
    left.legend(fontsize="small")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    return figure


def halving(result: HalvingResult, name: str = "learning_rate") -> "Figure":
    """Plot the learning curves of all members, each up to its last rung.

    Args:
        result: A result of `adaptax.successive_halving`.
        name: The path of the hyperparameter that colours the curves.

    Raises:
        ValueError: If there is no such hyperparameter.
    """
    require_result(result, HalvingResult)
    values = leaf_named(result.hparams, name)
    figure = new_figure(7, 4.2)
    axes = figure.subplots()
    logarithmic = bool(values.min() > 0)
    places = np.log10(values) if logarithmic else values
    span = max(float(np.ptp(places)), 1e-12)
    curves = smooth(result.curves()[1])
    steps = np.arange(1, curves.shape[1] + 1)
    from matplotlib import cm, colormaps
    from matplotlib.colors import LogNorm, Normalize

    colors = colormaps["viridis"]
    for member, curve in enumerate(curves):
        color = colors(float(places[member] - places.min()) / span)
        last = result.reached[member] == len(result.rungs)
        axes.plot(steps, curve, color=color, linewidth=2 if last else 0.8)
    for rung in result.rungs[:-1]:
        axes.axvline(rung, color="0.85", zorder=0)
    norm = LogNorm if logarithmic else Normalize
    bar = cm.ScalarMappable(norm(values.min(), values.max()), colors)
    figure.colorbar(bar, ax=axes, label=name.replace("_", " "))
    axes.set(xlabel="step", ylabel="loss", xscale="log")
    axes.set_yscale("log" if spans_decades(curves) else "linear")
    axes.set_title(f"{result.cost:.0%} of the cost of the full sweep", fontsize="small")
    axes.grid(alpha=0.3)
    return figure


def population(result: PopulationResult, name: str = "learning_rate") -> "Figure":
    """Plot a hyperparameter and the scores of all members, with the winner in bold.

    Thin vertical lines connect a member with the one that it was copied from.

    Args:
        result: A result of `adaptax.population_based_training`.
        name: The path of the hyperparameter.

    Raises:
        ValueError: If there is no such hyperparameter.
    """
    require_result(result, PopulationResult)
    values, path = leaf_named(result.hparams, name), result.ancestry()
    intervals = len(values)
    ends = np.minimum(
        np.arange(intervals + 1) * result.interval, result.losses.shape[1]
    )
    figure = new_figure(7, 6)
    above, below = figure.subplots(2, 1, sharex=True)
    for member in range(values.shape[1]):
        above.stairs(values[:, member], ends, color="0.8", baseline=None)
    copied = result.parents[1:] != np.arange(values.shape[1])
    for interval, member in np.argwhere(copied):
        parent = result.parents[interval + 1, member]
        heights = values[interval, parent], values[interval + 1, member]
        above.plot([ends[interval + 1]] * 2, heights, color="0.8", linewidth=0.6)
    scores = np.where(np.isfinite(result.scores), result.scores, np.nan)
    below.plot(ends[1:], scores, color="0.8", linewidth=0.8)
    lived = np.arange(intervals), path
    above.stairs(values[lived], ends, color="tab:red", baseline=None, linewidth=2)
    below.plot(ends[1:], scores[lived], color="tab:red", linewidth=2)
    above.plot([], [], color="tab:red", label="the winner and its ancestors")
    above.plot([], [], color="0.8", label="the other members")
    above.set(ylabel=name.replace("_", " "))
    above.set_yscale("log" if values.min() > 0 else "linear")
    below.set(xlabel="step", ylabel="score")
    below.set_yscale("log" if spans_decades(scores) else "linear")
    above.legend(fontsize="small")
    for axes in (above, below):
        axes.grid(alpha=0.3)
    return figure


def branches(result: BranchResult, name: str = "learning_rate") -> "Figure":
    """Plot the run, the branches tried at each stage, and the chosen ones.

    Args:
        result: A result of `adaptax.branch`.
        name: The path of the hyperparameter.

    Raises:
        ValueError: If there is no such hyperparameter.
    """
    require_result(result, BranchResult)
    values = leaf_named(result.hparams, name)
    stages, branches, explored = result.explored.shape
    figure = new_figure(7, 6)
    above, below = figure.subplots(2, 1, sharex=True)
    for stage in range(stages):
        begun = stage * result.stage_steps
        steps = begun + np.arange(1, explored + 1)
        above.plot(steps, result.explored[stage].T, color="0.7", linewidth=0.6)
        below.plot([begun] * branches, values[stage], ".", color="0.7")
    above.plot(np.arange(1, len(result.losses) + 1), result.losses, color="tab:red")
    chosen = values[np.arange(stages), result.chosen]
    ends = np.arange(stages + 1) * result.stage_steps
    below.stairs(chosen, ends, color="tab:red", baseline=None, linewidth=2)
    above.plot([], [], color="tab:red", label="the run")
    above.plot([], [], color="0.7", label="branches that were tried")
    above.set(ylabel="loss")
    above.set_yscale("log" if spans_decades(result.losses) else "linear")
    below.set(xlabel="step", ylabel=name.replace("_", " "))
    below.set_yscale("log" if values.min() > 0 else "linear")
    above.legend(fontsize="small")
    for axes in (above, below):
        axes.grid(alpha=0.3)
    return figure
