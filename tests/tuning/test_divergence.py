"""The rule of divergence: both libraries are judged alike, in every tool."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptax
from adaptax.spaces import grid
from adaptax.tuning.running import divergence

OPTIMIZERS = {
    "ours": lambda h: adaptax.gradient_descent(h["learning_rate"]),
    "Optax's": lambda h: optax.sgd(h["learning_rate"]),
}
EACH_LIBRARY = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
DIVERGING = [0.5, 1e3, 3e17]


def bowl(optimizer, scale=1.0, shift=0.0, first=1.0, dtype=jnp.float32):
    def loss(w, curvature):
        return (scale * 0.5 * jnp.sum(curvature[0] * w**2) + shift).astype(dtype)

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


LONGEST = 400  # of the losses below, so that one program judges them all


@jax.jit
def counts_of_bad(losses):
    def after(watch, loss):
        watch = divergence.watched(watch, loss)
        return watch, watch

    return jax.lax.scan(after, divergence.begin(), losses)[1]


def watched(losses):
    """Return the watch after each of the losses."""
    padded = np.ones(LONGEST, np.float32)
    padded[: len(losses)] = losses
    return jax.tree.map(lambda x: np.asarray(x)[: len(losses)], counts_of_bad(padded))


def judged(losses):
    """Return the step after which a run with these losses has diverged, or None."""
    places = np.flatnonzero(watched(losses).bad >= divergence.PATIENCE)
    return int(places[0]) if len(places) else None


TIMES = np.arange(150)
WELL = np.full(100, 2.0)  # losses of a run that trains
GOOD_RUNS = {
    "1e20": 1e20 * 0.9**TIMES,
    "1e20 to 0": 1e20 * 0.5**TIMES,
    "1e-30": 1e-30 * 0.9**TIMES,
    "1e-30, then usual": [1e-30, *WELL],
    "zeros": np.zeros(60),
    "constant": np.full(60, -3.0),
    "from 0": [0.0] + [3e4] * 40,
    "from 0 far": [0.0] + [4e10] * 40,
    "negative": [-5.0, *np.linspace(-5, -1e3, 50), *[1e4] * 30],
    "crosses 0": 5 - 0.1 * TIMES,
    "log-likelihood": -np.geomspace(1, 1e6, 150),
    "and back": [*-np.geomspace(1, 1e6, 100), *[0.0] * 50],
    "without bound": -(10.0 ** np.minimum(TIMES[:60], 37)),
    "NaN first": [*[np.nan] * 19, *WELL],
    "a high one first": [1e9, *WELL],
    "a low one first": [-1e6, *WELL],
    "bad batches": [1.0, *[np.nan, np.inf, 1.0] * 20],
    "each eighth": np.where(TIMES % 8 == 7, np.nan, 2.0),
    "each second": np.where(TIMES % 2, np.nan, 2.0),
    "a spike": [*WELL, 3e6, *WELL],
    "a wide spike": [1.0, *[1e9] * 15, *[0.5] * 40],
    "infinite for a while": [*WELL, *[np.inf] * 19, *WELL],
    "a plateau, then slow growth": [*WELL, *2 * 1.01**TIMES],
    "two players": 3 * np.sin(TIMES),
    "max": [3e38, *[1e38] * 40],
}
LOST_RUNS = {
    "slow growth": (2 * 1.05 ** np.arange(LONGEST), 303),
    "a plateau, then growth": ([*WELL, *2 * 1.2 ** np.arange(120)], 195),
    "growth from zeros": ([0.0] * 3 + [1e-3 * 2.0**t for t in range(100)], None),
    "up and down, growing": (2 * 1.3**TIMES * np.where(TIMES % 2, 1, 0.1), None),
    "both signs, growing": (2 * 1.3**TIMES * np.where(TIMES % 2, 1, -1), None),
    "a low one before": ([*WELL, -1e30, *WELL, *[8e29] * 20], None),
    "a log-likelihood": ([*-np.geomspace(1, 1e6, 100), *[1e13] * 20], 119),
    "NaN from the start": ([np.nan] * 30, 19),
    "NaN later": ([*WELL, *[np.nan] * 30], 119),
}


@pytest.mark.parametrize("name", GOOD_RUNS)
def test_these_have_not_diverged(name):
    losses = GOOD_RUNS[name]
    assert judged(losses) is None
    watch = watched(losses)
    assert watch.bad[-1] < divergence.ENDING


@pytest.mark.parametrize("name", LOST_RUNS)
def test_these_have_diverged_in_the_end(name):
    losses, step = LOST_RUNS[name]
    found = judged(losses)
    assert found is not None
    assert step is None or abs(found - step) <= 1


@pytest.mark.parametrize("outlier", [-1e30, -3e7, 1e30, np.nan, np.inf, -np.inf])
def test_a_single_absurd_loss_is_in_no_mean_and_sets_no_scale(outlier):
    losses = np.array([*WELL, outlier, 2.0], np.float32)
    watch = jax.tree.map(lambda x: x[-1:], watched(losses))
    good = ~np.asarray(divergence.is_bad(losses, watch.start, watch.low))
    assert good.sum() == len(losses) - 1
    mean = divergence.mean_of_good(losses[None], good[None], 10)
    np.testing.assert_array_equal(mean, [2.0])
    assert watch.low[0] == 2


def test_whole_runs_are_judged_as_step_by_step():
    generator = np.random.default_rng(0)
    odd = np.array([np.nan, np.inf, -np.inf, 0, 1e30, -1e30, 8e29, -3e7], np.float32)
    losses = generator.normal(size=(60, 40)).astype(np.float32)
    losses *= np.float32(10.0) ** generator.integers(-9, 9, (60, 1))
    places = generator.random(losses.shape) < generator.random((60, 1))
    losses = np.where(places, generator.choice(odd, losses.shape), losses)
    good, bad = divergence.judged(losses)
    for curve, fine, ending in zip(losses, good, bad, strict=True):
        watch = jax.tree.map(lambda x: x[-1], watched(curve))
        assert min(ending, divergence.PATIENCE) == watch.bad
        expected = divergence.is_bad(curve, watch.start, watch.low)
        np.testing.assert_array_equal(~fine, expected)
    assert 0 < np.mean(bad > 0) < 1


@pytest.mark.parametrize(
    ("losses", "diverged"),
    [
        ([2], False),
        ([np.nan], True),
        ([2, 1], False),
        ([np.nan, 2], False),
        ([2, np.nan], True),
        ([2, np.nan, 1], False),
        ([2, 1, 1e9], True),
        ([2, 1, 2, 1, 2, np.nan], False),
    ],
)
def test_very_short_runs_are_judged_by_their_last_half(losses, diverged):
    bad = watched(losses).bad[-1]
    assert (bad >= divergence.patience(len(losses))) == diverged


def test_means_of_very_large_losses_do_not_overflow():
    losses = np.full((1, 40), 3e38, np.float32)
    mean = divergence.mean_of_good(losses, np.full((1, 40), True), 40)
    np.testing.assert_allclose(mean, 3e38, rtol=1e-6)


@EACH_LIBRARY
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_losses_of_few_bits_are_judged_alike(optimizer, dtype):
    found = swept(bowl(optimizer, dtype=dtype), [0.05, 0.5])
    np.testing.assert_array_equal(np.isfinite(found.scores[:, 0]), [True, False])


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
