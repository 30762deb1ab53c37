"""Plots of the tools: a figure of every result, with its axes named."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from adaptax import plots
from adaptax.tuning import (
    BranchResult,
    HalvingResult,
    PopulationResult,
    SweepResult,
)

GENERATOR = np.random.default_rng(0)
RATES = {"learning_rate": np.geomspace(1e-3, 1.0, 4).astype(np.float32)}


def losses(*shape):
    return GENERATOR.uniform(0.1, 2.0, shape).astype(np.float32)


def swept(seeds=3, diverged=()):
    curves, scores = losses(4, seeds, 60), losses(4, seeds)
    curves[list(diverged), :, 30:] = np.nan
    scores[list(diverged)] = np.inf
    about = {"seeds": list(range(seeds))}
    return SweepResult(RATES, curves, scores, {}, about)


def labels(figure):
    axes = figure.axes
    return {axis.get_xlabel() for axis in axes} | {axis.get_ylabel() for axis in axes}


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("diverged", [(), (3,), (0, 1, 2, 3)])
def test_a_sweep_is_drawn_even_where_members_diverged(seeds, diverged):
    figure = plots.sweep(swept(seeds, diverged))
    assert isinstance(figure, Figure)
    assert {"learning rate", "score", "step", "loss"} <= labels(figure)
    marks = [line for line in figure.axes[0].lines if line.get_label() == "diverged"]
    assert len(marks) == bool(diverged)
    if marks:
        assert len(marks[0].get_xdata()) == len(diverged)


def test_halving_draws_each_member_to_its_last_rung():
    found = swept(2)
    rungs, reached = np.array([20, 60]), np.array([1, 2, 1, 1])
    for member, last in enumerate(reached):
        found.losses[member, :, rungs[last - 1] :] = np.nan
    result = HalvingResult(
        RATES, found.losses, found.scores, {}, found.about, rungs, reached
    )
    figure = plots.halving(result)
    lengths = [
        np.isfinite(line.get_ydata()).sum()
        for line in figure.axes[0].lines
        if len(line.get_xdata()) == 60
    ]
    assert lengths == [20, 60, 20, 20]
    assert "50%" in figure.axes[0].get_title()


def test_a_population_shows_the_winners_rates():
    rates = {"learning_rate": np.geomspace(1e-3, 1.0, 12).reshape(3, 4)}
    parents = np.array([[0, 1, 2, 3], [0, 1, 2, 0], [3, 1, 2, 3]])
    result = PopulationResult(rates, losses(4, 30), losses(3, 4), parents, {}, 10, {})
    figure = plots.population(result)
    heights = [patch.get_data().values for patch in figure.axes[0].patches]
    np.testing.assert_array_equal(heights[-1], result.lived()["learning_rate"])
    assert {"learning rate", "score", "step"} <= labels(figure)


def test_branches_show_what_was_chosen():
    rates = {"learning_rate": np.tile(RATES["learning_rate"], (3, 1))}
    chosen = np.array([2, 1, 0])
    result = BranchResult(
        rates, losses(3, 4, 5), losses(3, 4), chosen, losses(60), 20, {}
    )
    figure = plots.branches(result)
    (steps,) = figure.axes[1].patches
    np.testing.assert_array_equal(
        steps.get_data().values, RATES["learning_rate"][chosen]
    )


def test_a_hyperparameter_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"one of \['learning_rate'\], got 'beta'"):
        plots.sweep(swept(), "beta")
