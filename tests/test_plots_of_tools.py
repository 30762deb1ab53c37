"""Plots of the tools: a figure of every result, with its axes named."""

import numpy as np
import pytest
from matplotlib.figure import Figure

import adaptax
from adaptax import plots
from adaptax.tuning import (
    BranchResult,
    FinderResult,
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


def found(status="ok", seeds=3, **suggestions):
    rates = np.geomspace(1e-5, 1.0, 20).astype(np.float32)
    curves = losses(seeds, 20)
    curves[:, 15:] = np.nan
    every = {**dict.fromkeys(("valley", "slide", "minimum", "steep")), **suggestions}
    spread = {name: rate and (rate / 2, rate * 2) for name, rate in every.items()}
    about = {"name": "learning_rate", "mode": "exponential"}
    return FinderResult(rates, curves, curves, every, spread, status, about)


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_finder_marks_each_suggestion_at_its_rate(seeds):
    result = found(seeds=seeds, valley=1e-3, steep=1e-2)
    axes = plots.finder(result).axes[0]
    marked = {line.get_label(): line for line in axes.lines}
    assert marked["valley, 0.001 (suggested)"].get_xdata()[0] == 1e-3
    assert marked["steep, 0.01"].get_xdata()[0] == 1e-2
    assert not any("slide" in str(label) for label in marked)
    assert axes.get_title() == result.message
    assert axes.get_xscale() == "log"


def test_the_result_of_a_users_own_loop_is_drawn_as_that_of_the_finder():
    test = adaptax.range_test(num_steps=20, mode="linear")
    for _ in test:
        test.tell(1.0)
    axes = plots.finder(test.result()).axes[0]
    assert axes.get_title() == test.result().message
    assert (axes.get_xlabel(), axes.get_xscale()) == ("learning rate", "linear")


@pytest.mark.parametrize("status", ["flat", "diverged at once", "not finite"])
def test_a_finder_without_a_suggestion_is_drawn_with_the_reason(status):
    axes = plots.finder(found(status)).axes[0]
    assert axes.get_title() == found(status).message


def test_schedules_are_drawn_by_name_with_their_rates():
    cosine = adaptax.cosine(0.1, 100)
    axes = plots.schedule(
        {"ours": cosine, "plain": lambda step: 0.05}, total_steps=100
    ).axes[0]
    ours, plain = axes.lines
    assert [line.get_label() for line in axes.lines] == ["ours", "plain"]
    np.testing.assert_allclose(
        ours.get_ydata(), cosine(np.arange(100)), rtol=1e-5, atol=1e-9
    )
    np.testing.assert_allclose(plain.get_ydata(), 0.05)


@pytest.mark.parametrize(
    ("schedules", "message"), [((), "at least one"), ((0.1,), "function step -> rate")]
)
def test_a_schedule_that_is_none_is_refused(schedules, message):
    with pytest.raises(TypeError, match=message):
        plots.schedule(*schedules, total_steps=10)


def test_a_history_has_a_panel_for_each_array_and_leaves_out_what_is_not_finite():
    loss = np.geomspace(1000.0, 0.1, 50)
    rates = np.stack([np.full(50, 0.1), np.full(50, 0.3)])
    broken = np.where(np.arange(50) < 25, 1.0, np.nan)
    figure = plots.history({"loss": loss, "rate": rates, "broken": broken})
    by_title = {axes.get_title(): axes for axes in figure.axes}
    assert set(by_title) == {"loss", "rate", "broken"}
    assert by_title["loss"].get_yscale() == "log"
    assert by_title["rate"].get_yscale() == "linear"
    assert len(by_title["rate"].lines) == 3  # two runs and their median


@pytest.mark.parametrize("history", [{}, {"loss": np.zeros((2, 2, 2))}, {"loss": []}])
def test_a_history_of_another_shape_is_refused(history):
    with pytest.raises(ValueError, match="history"):
        plots.history(history)


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
