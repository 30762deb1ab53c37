"""Plots of functions of the step."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from adaptax._core import checks
from adaptax._core.checks import require
from adaptax.plots.figures import (
    FAINT,
    MOST_POINTS,
    median,
    new_figure,
    spans_decades,
)
from adaptax.tuning.trials.arguments import require_arrays

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def schedule(
    *schedules: Callable[[Any], Any] | Mapping[str, Callable[[Any], Any]],
    total_steps: int,
) -> "Figure":
    """Plot schedules of adaptax or Optax, or any functions of the step.

    Args:
        schedules: One or more functions `step -> rate`, or dicts of them by name.
        total_steps: The number of steps to draw, >= 1.

    Raises:
        TypeError: If there is none, or one cannot be called.
    """
    total_steps = checks.length("total_steps", total_steps)
    require(
        total_steps < 2**31,
        f"total_steps must be < 2**31, got {total_steps}: steps are int32.",
    )
    named = _named(schedules)
    points = min(total_steps, MOST_POINTS)
    steps = np.linspace(0, total_steps - 1, points).astype(np.int32)
    figure = new_figure(7, 3.6)
    axes = figure.subplots()
    for name, function in named.items():
        axes.plot(steps, _rates(function, steps), label=name)
    axes.set(xlabel="step", ylabel="learning rate")
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.grid(alpha=0.3)
    if len(named) > 1:
        axes.legend(fontsize="small")
    return figure


def history(history: Mapping[str, Any]) -> "Figure":
    """Plot recorded arrays of training, one panel each, with a running mean.

    The scale is logarithmic if all values are positive and most of them span more than
    a factor of 30. Values that are not finite are not drawn.

    Args:
        history: Arrays of shape (steps,) or (runs, steps), by name.

    Raises:
        ValueError: If there is none, or one has another shape.
    """
    if not isinstance(history, Mapping):
        raise TypeError(f"history must be a dict of arrays, got {history!r}.")
    require_arrays("history", dict(history))
    require(len(history) > 0, "history must have at least one array, got none.")
    columns = min(2, len(history))
    rows = -(-len(history) // columns)
    figure = new_figure(4.5 * columns, 2.8 * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for axes, (name, values) in zip(panels, history.items(), strict=False):
        values = np.atleast_2d(np.asarray(values, float))
        require(
            values.ndim == 2 and values.size > 0,
            f"history[{name!r}] must be of shape (steps,) or (runs, steps), got "
            f"{np.shape(history[name])}.",
        )
        _draw_history(axes, name, values)
    for axes in panels[len(history) :]:
        axes.remove()
    for axes in panels[: len(history)][-columns:]:
        axes.set_xlabel("step")
        axes.tick_params(labelbottom=True)
    return figure


def _draw_history(axes: "Axes", name: str, values: np.ndarray) -> None:
    steps = values.shape[1]
    width = max(1, steps // 50)
    axes.plot(values.T, color="tab:blue", **FAINT)
    means = np.convolve(median(values), np.full(width, 1 / width), "valid")
    axes.plot(np.arange(len(means)) + (width - 1) / 2, means, color="tab:blue")
    axes.set(title=name, yscale="log" if spans_decades(values) else "linear")
    axes.grid(alpha=0.3)


def _named(schedules: tuple[Any, ...]) -> dict[str, Callable[[Any], Any]]:
    named: dict[str, Callable[[Any], Any]] = {}
    for number, given in enumerate(schedules, start=1):
        named |= given if isinstance(given, Mapping) else {f"schedule {number}": given}
    if not named:
        raise TypeError("schedule needs at least one function step -> rate.")
    for name, function in named.items():
        if not callable(function):
            raise TypeError(
                f"{name} must be a function step -> rate, got {function!r}."
            )
    return named


def _rates(function: Callable[[Any], Any], steps: np.ndarray) -> np.ndarray:
    return np.asarray(jax.vmap(lambda step: jnp.asarray(function(step)))(steps))
