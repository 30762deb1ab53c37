"""Greedy against its rule, and where the authors' bounds go wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.contracts import Contract, Goal
from metrics import METRICS, assert_follows, followed, run

import adaptax


def reference(
    metrics,
    gradients=None,
    *,
    factor=0.95,
    patience=10,
    threshold=1e-6,
    cooldown=0,
    warmup=0,
    min_scale=1e-3,
    max_scale=1e3,
    reset=500,
    window=1,
    threshold_mode="absolute",
    mode="min",
):
    """Raise the scale after a run of improvements, cut it after a run without."""
    del gradients
    scale, best, good, bad, cooling, warming = 1.0, None, 0, 0, 0, 0
    left, latest = reset, []
    for metric in metrics:
        latest = [*latest, metric if mode == "min" else -metric][-window:]
        mean = sum(latest) / len(latest)
        if cooling > 0:
            cooling, good, bad = cooling - 1, 0, 0
        elif warming > 0:
            warming, good, bad = warming - 1, 0, 0
        elif best is None or mean < best - threshold * (
            abs(best) if threshold_mode == "relative" else 1
        ):
            best, good, bad = mean, good + 1, 0
        else:
            good, bad = 0, bad + 1
        if good > patience:
            scale = min(scale / factor, max_scale)
            good, warming, left = 0, warmup, reset
        elif bad > patience:
            scale = max(scale * factor, min_scale)
            bad, cooling = 0, cooldown
        if scale <= min_scale:
            left -= 1
        if left <= 0:
            scale, best, good, bad, cooling, warming = 1.0, None, 0, 0, 0, 0
            left, latest = reset, []
        yield scale


CONTRACT = Contract(
    reference,
    static=frozenset({"window"}),
    goals={"quadratic": Goal(200, 1e-2)},
)

ARGUMENTS = {
    "at once": {"factor": 0.5, "patience": 0},
    "with waits": {"factor": 0.5, "patience": 1, "cooldown": 2, "warmup": 3},
    "over windows": {"factor": 0.5, "patience": 1, "window": 4},
    "with resets": {"factor": 0.5, "patience": 0, "min_scale": 0.5, "reset": 3},
    "relatively": {"factor": 0.5, "threshold": 0.05, "threshold_mode": "relative"},
    "for the largest": {"factor": 0.5, "patience": 1, "mode": "max"},
}


@pytest.mark.parametrize("metrics", METRICS.values(), ids=METRICS)
@pytest.mark.parametrize("arguments", ARGUMENTS.values(), ids=ARGUMENTS)
def test_it_moves_as_the_rule_says(arguments, metrics):
    assert_follows(reference, adaptax.greedy, metrics, **arguments)


def test_a_rate_below_a_thousandth_can_be_reduced():
    greedy = adaptax.greedy(factor=0.5, patience=0)
    optimizer = adaptax.gradient_descent(optax.chain(adaptax.constant(1e-4), greedy))
    state = optimizer.init(jnp.zeros(()))
    for loss in (1.0, 2.0, 3.0, 4.0):
        _, state = optimizer.update(jnp.ones(()), state, value=loss)
    assert adaptax.learning_rate(state) < 1e-4


def test_a_constant_negative_loss_does_not_raise_it():
    scales, _ = run(adaptax.greedy(factor=0.5, patience=1), [-1.0] * 6)
    assert scales[-1] < 1


def test_a_window_sees_through_noise():
    noisy = np.linspace(3, 1, 60) + np.where(np.arange(60) % 2, 0.2, -0.2)
    single, _ = run(adaptax.greedy(factor=0.5, patience=2), noisy)
    smooth, _ = run(adaptax.greedy(factor=0.5, patience=2, window=10), noisy)
    assert single.max() == 1
    assert smooth[-1] > 1


def test_after_a_reset_it_starts_anew():
    greedy = adaptax.greedy(factor=0.5, patience=0, min_scale=0.25, reset=2)
    scales, state = run(greedy, [1, 5, 5, 5, 5, 5])
    np.testing.assert_array_equal(scales, [2, 1, 0.5, 0.25, 1, 2])
    method = followed(state)
    assert (int(method.resets), int(method.cuts), int(method.raises)) == (1, 4, 2)
    assert int(state.changed_at) == 5


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_metric_that_is_not_finite_is_passed_over(bad):
    greedy = adaptax.greedy(factor=0.5, patience=0, window=2)
    clean, _ = run(greedy, [3, 2, 4, 1])
    scales, state = run(greedy, [3, 2, bad, 4, bad, 1])
    np.testing.assert_array_equal(scales[[0, 1, 3, 5]], clean)
    assert int(state.skipped) == 2
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"factor": 1.0}, "factor must"),
        ({"patience": -1}, "patience must"),
        ({"threshold": np.nan}, "threshold must"),
        ({"cooldown": -1}, "cooldown must"),
        ({"warmup": -1}, "warmup must"),
        ({"min_scale": 2.0}, "min_scale must"),
        ({"max_scale": 0.5}, "max_scale must"),
        ({"reset": 0}, "reset must be >= 1"),
        ({"window": 0}, "window must be >= 1"),
        ({"threshold_mode": "both"}, "threshold_mode must be one of"),
        ({"mode": "least"}, "mode must be one of"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments, says):
    with pytest.raises(ValueError, match=says):
        adaptax.greedy(**arguments)


def test_the_length_of_the_window_cannot_be_traced():
    with pytest.raises(TypeError, match="window must be a Python integer"):
        jax.jit(lambda window: adaptax.greedy(window=window).init(()))(3)
