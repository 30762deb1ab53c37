"""Scores and metrics of NaN beside fine losses: no such member wins, in any tool."""

import jax.numpy as jnp
import numpy as np
import pytest
from lines import X, Y, line_trial

import adaptax
from adaptax import spaces

TOO_GOOD, LOW = 0.3, -1.0
RATES = spaces.log_uniform(1e-3, 0.3)


def evaluate(w, data):
    """Judge by a loss that is NaN where it is small, of those that would win."""
    del data
    loss = jnp.mean((jnp.asarray(X) @ w - jnp.asarray(Y)) ** 2)
    slope = jnp.where(w[1] < LOW, jnp.nan, w[1])
    score = jnp.where(loss < TOO_GOOD, jnp.nan, loss)
    return score, {"loss": loss, "w": w[1], "slope": slope}


def swept(trial, **options):
    space = {"learning_rate": np.geomspace(1e-3, 0.3, 8)}
    return adaptax.sweep(trial, space, num_steps=30, **options)


def halved(trial, **options):
    return adaptax.successive_halving(
        trial, {"learning_rate": RATES}, samples=9, num_steps=27, **options
    )


def populated(trial, **options):
    return adaptax.population_based_training(
        trial, {"learning_rate": RATES}, members=8, num_steps=30, interval=10, **options
    )


def searched(trial, **options):
    pytest.importorskip("evosax")
    return adaptax.search_schedule(
        trial,
        num_steps=20,
        low=1e-3,
        high=0.1,
        knots=2,
        population=4,
        generations=2,
        fresh_seeds=4,
        baseline=False,
        **options,
    )


def score_of_the_best(result):
    if isinstance(result, adaptax.SearchResult):
        return result.score
    if isinstance(result, adaptax.PopulationResult):
        return result.scores[-1, result.best_member]
    return result.scores[result.ranking[0], 0]


@pytest.mark.parametrize("tool", [swept, halved, populated, searched])
def test_a_score_of_nan_never_wins_and_a_metric_of_nan_disturbs_no_other(tool):
    trial = line_trial(evaluate=evaluate, eval_data=())
    result = tool(trial, key=0, strategy="map", progress=False)
    loss, w, slope = (result.metrics[name] for name in ("loss", "w", "slope"))
    judged = np.where(loss < TOO_GOOD, np.inf, loss)
    np.testing.assert_array_equal(result.scores, judged)
    np.testing.assert_array_equal(slope, np.where(w < LOW, np.nan, w))
    assert np.isnan(slope).any()
    assert np.isfinite(slope).any()
    assert tool is searched or np.isinf(judged).any()
    assert np.isfinite(score_of_the_best(result))
    assert np.isfinite(result.losses[..., 0]).all()
