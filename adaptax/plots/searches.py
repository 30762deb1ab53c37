"""Plots of what a search for a schedule, or a rule, found."""

from typing import TYPE_CHECKING

import numpy as np

from adaptax.plots.figures import (
    FAINT,
    MOST_POINTS,
    new_figure,
    require_result,
    spans_decades,
)
from adaptax.tuning import RuleResult, SearchResult
from adaptax.tuning.storage.named_arrays import leaf_named

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def search(result: SearchResult) -> "Figure":
    """Plot the schedule found, the best cosine, and the course of the search.

    On the right are the scores of the candidates by generation, each generation with
    its own seeds. A line connects their medians, and crosses at the top mark candidates
    that diverged. Right of them are the scores of the winner and of the cosine over
    fresh seeds, with two standard errors.

    Args:
        result: A result of `search_schedule`.
    """
    require_result(result, SearchResult)
    figure = new_figure(10, 4)
    left, right = figure.subplots(1, 2)
    _draw_schedules(left, result)
    _draw_generations(right, result)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    return figure


def rule(result: RuleResult, name: str = "learning_rate") -> "Figure":
    """Plot the scores by a hyperparameter, and the losses of the runs of each round.

    A run that continues another one is drawn after it.

    Args:
        result: A result of `adaptax.tuning.play_rule`.
        name: The path of the hyperparameter.

    Raises:
        ValueError: If there is no such hyperparameter.
    """
    require_result(result, RuleResult)
    values = leaf_named(result.hparams, name)
    scores = np.where(np.isfinite(result.scores), result.scores, np.nan)
    begun = _beginnings(result)
    figure = new_figure(9, 3.8)
    left, right = figure.subplots(1, 2)
    for number in np.unique(result.rounds):
        color, runs = f"C{number % 10}", np.flatnonzero(result.rounds == number)
        left.plot(values[runs], scores[runs], "o", color=color, ms=4)
        for run in runs:
            steps = begun[run] + np.arange(1, result.losses.shape[1] + 1)
            right.plot(steps, result.losses[run], color=color, **FAINT)
        right.plot([], [], color=color, label=f"round {number}")
    left.set(xlabel=name.replace("_", " "), ylabel="score")
    left.set_xscale("log" if values.min() > 0 else "linear")
    left.set_yscale("log" if spans_decades(scores) else "linear")
    right.set(xlabel="step", ylabel="loss")
    right.set_yscale("log" if spans_decades(result.losses) else "linear")
    right.legend(fontsize="small")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    return figure


def _beginnings(result: RuleResult) -> np.ndarray:
    """Return the number of steps before each run, those of the runs it continues."""
    known = np.isfinite(result.losses)
    lengths = known.shape[1] - known[:, ::-1].argmax(axis=1)
    lengths = np.where(known.any(axis=1), lengths, 0)
    begun = np.zeros(len(lengths), int)
    for run in np.flatnonzero(result.parents >= 0):
        parent = result.parents[run]
        same_round = result.rounds == result.rounds[parent]
        begun[run] = begun[parent] + lengths[same_round].max()
    return begun


def _draw_schedules(axes: "Axes", result: SearchResult) -> None:
    last = result.losses.shape[1] - 1
    steps = np.linspace(0, last, min(last + 1, MOST_POINTS)).astype(np.int32)
    rates = np.asarray(result.schedule(steps))
    axes.plot(steps, rates, color="tab:blue", label="searched")
    knots = np.linspace(0, last, len(result.log_rates))
    axes.plot(knots, np.exp(result.log_rates), "o", color="tab:blue", ms=5)
    if result.baseline is not None:
        name = f"best cosine, warm-up {result.baseline.warmup_share:.0%}"
        cosine = np.asarray(result.baseline.schedule(steps))
        positive = np.where(cosine > 0, cosine, np.nan)  # the axis is logarithmic
        axes.plot(steps, positive, color="tab:orange", label=name)
    axes.set(xlabel="step", ylabel=result.about["name"].replace("_", " "), yscale="log")
    axes.set_ylim(bottom=0.3 * rates.min())
    axes.grid(alpha=0.3)


def _draw_generations(axes: "Axes", result: SearchResult) -> None:
    from matplotlib.ticker import MaxNLocator

    history = np.where(np.isfinite(result.history), result.history, np.nan)
    generations, middle = np.arange(len(history)), history.shape[1] // 2
    axes.plot(generations, history, "o", color="0.6", ms=3, alpha=0.6)
    ordered = np.sort(result.minimized(result.history))[:, middle]
    medians = result.minimized(np.where(np.isfinite(ordered), ordered, np.nan))
    axes.plot(generations, medians, color="0.4")
    diverged = np.flatnonzero(np.isnan(history).any(axis=1))
    top = axes.get_xaxis_transform()
    axes.plot(
        diverged, np.full(len(diverged), 0.98), "x", color="tab:red", transform=top
    )
    judged = {"tab:blue": result.scores}
    if result.baseline is not None:
        judged["tab:orange"] = result.baseline.scores
    for place, (color, scores) in enumerate(judged.items(), start=len(history)):
        with np.errstate(invalid="ignore"):
            error = 2 * scores.std(ddof=1) / np.sqrt(len(scores))
        if np.isfinite(error):
            axes.errorbar(
                place, scores.mean(), error, color=color, fmt="o", capsize=4, ms=5
            )
            axes.axhline(scores.mean(), color=color, linewidth=0.8, alpha=0.6)
    axes.axvline(len(history) - 0.5, color="0.3", linewidth=0.8, linestyle="--")
    positive = history[np.isfinite(history)].min(initial=np.inf) > 0
    axes.set(ylabel="score", yscale="log" if positive else "linear")
    axes.set_xlabel("generation; right of the last one, the fresh seeds")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
