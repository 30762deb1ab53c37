"""The rule of divergence: both libraries are judged alike, in every tool."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptax
from adaptax.spaces import grid
from adaptax.tuning import divergence

OPTIMIZERS = {
    "ours": lambda h: adaptax.gradient_descent(h["learning_rate"]),
    "Optax's": lambda h: optax.sgd(h["learning_rate"]),
}
EACH_LIBRARY = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
DIVERGING = [0.5, 1e3, 3e17]


def bowl(optimizer, scale=1.0, shift=0.0, first=1.0):
    def loss(w, curvature):
        return scale * 0.5 * jnp.sum(curvature[0] * w**2) + shift

    data = jnp.array([[10.0, 5.0, 1.0]])
    return adaptax.trial(lambda key: jnp.full(3, float(first)), loss, optimizer, data)


def line(optimizer, poisoned):
    """Return 48 examples of a line, one of them NaN if asked for."""
    x = np.random.default_rng(0).normal(size=(48, 3)).astype(np.float32)
    y = x @ np.array([1, 2, 3], np.float32)
    if poisoned:
        x[7, 1] = np.nan

    def loss(w, batch):
        return jnp.mean((batch["x"] @ w - batch["y"]) ** 2)

    data = {"x": x, "y": y}
    return adaptax.trial(lambda key: jnp.zeros(3), loss, optimizer, data, 8)


def swept(trial, rates, num_steps=60):
    space = {"learning_rate": grid(rates)}
    return adaptax.sweep(trial, space, num_steps=num_steps, progress=False)


@EACH_LIBRARY
@pytest.mark.parametrize("num_steps", [20, 300])
def test_no_diverged_run_is_the_best_of_a_sweep(optimizer, num_steps):
    found = swept(bowl(optimizer), DIVERGING, num_steps)
    assert np.isinf(found.scores).all()
    assert found.best is None


@EACH_LIBRARY
@pytest.mark.parametrize(
    ("scale", "shift", "first"),
    [(1e6, 0, 1), (1e-6, 0, 1), (1, -8, 1), (1, -1e3, 1), (1, 0, 1e10)],
)
def test_scale_and_shift_of_the_loss_do_not_matter(optimizer, scale, shift, first):
    trial = bowl(optimizer, scale, shift, first)
    found = swept(trial, [0.05 / scale, 0.5 / scale], 300)
    np.testing.assert_array_equal(np.isfinite(found.scores[:, 0]), [True, False])


@EACH_LIBRARY
def test_halving_drops_what_diverged(optimizer):
    space = {"learning_rate": grid(DIVERGING)}
    found = adaptax.successive_halving(
        bowl(optimizer), space, num_steps=60, progress=False
    )
    assert found.best is None


@EACH_LIBRARY
@pytest.mark.parametrize("forecast", [True, False])
def test_branches_that_all_diverge_raise(optimizer, forecast):
    with pytest.raises(FloatingPointError, match="diverged"):
        adaptax.branch(
            bowl(optimizer),
            {"learning_rate": grid(DIVERGING)},
            stages=2,
            stage_steps=60,
            explore_steps=20,
            forecast=forecast,
            progress=False,
        )


@EACH_LIBRARY
def test_a_population_that_diverges_raises(optimizer):
    with pytest.raises(adaptax.PopulationDiverged):
        adaptax.population_based_training(
            bowl(optimizer),
            {"learning_rate": grid(DIVERGING)},
            num_steps=60,
            interval=30,
            progress=False,
        )


@EACH_LIBRARY
def test_a_search_among_rates_that_diverge_raises(optimizer):
    pytest.importorskip("evosax")
    with pytest.raises(FloatingPointError, match="diverged"):
        adaptax.search_schedule(
            bowl(optimizer),
            num_steps=40,
            low=0.5,
            high=1e3,
            knots=2,
            population=4,
            generations=2,
            progress=False,
        )


@EACH_LIBRARY
def test_the_finder_reads_both_libraries_alike(optimizer):
    found = adaptax.find_learning_rate(bowl(optimizer), high=1e3, progress=False)
    assert found.status == "ok"
    assert 0.02 < found.suggestion < 0.2


def test_one_bad_example_ends_no_run():
    trial = line(OPTIMIZERS["ours"], poisoned=True)
    clean = swept(line(OPTIMIZERS["ours"], poisoned=False), [0.01, 0.1])
    found = swept(trial, [0.01, 0.1])
    assert np.isfinite(found.scores).all()
    assert np.isnan(found.losses).any()
    assert found.best == clean.best


def test_parameters_that_became_nan_have_diverged():
    assert swept(line(OPTIMIZERS["Optax's"], poisoned=True), [0.01, 0.1]).best is None


def test_the_finder_survives_a_bad_example():
    found = adaptax.find_learning_rate(
        line(OPTIMIZERS["ours"], poisoned=True), low=1e-4, high=10.0, progress=False
    )
    assert found.status == "ok"


def test_a_population_and_its_branches_survive_a_bad_example():
    trial, space = line(OPTIMIZERS["ours"], True), {"learning_rate": grid([0.05, 0.1])}
    grown = adaptax.population_based_training(
        trial, space, num_steps=48, interval=12, progress=False
    )
    assert grown.scores[-1].min() < 0.1
    branched = adaptax.branch(
        trial, space, stages=2, stage_steps=24, explore_steps=12, progress=False
    )
    assert branched.losses[np.isfinite(branched.losses)][-1] < 0.1


def judged(losses):
    """Return the step after which a run with these losses has diverged, or None."""
    watch = divergence.begin()
    for step, loss in enumerate(losses):
        watch = divergence.watched(watch, jnp.float32(loss))
        if watch.bad >= divergence.PATIENCE:
            return step
    return None


@pytest.mark.parametrize(
    "losses",
    [
        [1e20 * 0.9**t for t in range(60)],
        [0.0] + [3e4] * 40,
        [0.0] + [4e10] * 40,
        [-5.0, *np.linspace(-5, -1e3, 50), *[1e4] * 30],
        [1.0, *[np.nan, np.inf, 1.0] * 20],
        [1.0, *[1e9] * 15, *[0.5] * 40],
        [3e38, *[1e38] * 40],
    ],
    ids=["1e20", "from 0", "from 0 far", "negative", "bad batches", "a spike", "max"],
)
def test_these_have_not_diverged(losses):
    assert judged(losses) is None


@pytest.mark.parametrize("lost", [np.nan, np.inf, 8e29, 5e35, -np.inf])
@pytest.mark.parametrize("start", [8.0, -3.0, 1e20, 1e-9, 0.0])
def test_these_have_diverged(start, lost):
    assert judged([start, start / 2 or 1.0, *[lost] * 30]) == 21


def test_seeds_and_factors_out_of_range_are_named():
    trial, space = bowl(OPTIMIZERS["ours"]), {"learning_rate": grid([0.1, 0.2])}
    with pytest.raises(ValueError, match="seeds must be < 2"):
        adaptax.sweep(trial, space, num_steps=2, seeds=[2**40], progress=False)
    with pytest.raises(ValueError, match="factors must be two"):
        adaptax.population_based_training(
            trial, space, num_steps=2, interval=1, factors=(), progress=False
        )
