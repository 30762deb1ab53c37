"""The bold driver against its rule, and where a simpler one goes wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.contracts import Contract, Goal
from metrics import METRICS, assert_follows, followed, run
from reference.smoothing import averages, means_over

import adaptax


def reference(
    metrics,
    gradients=None,
    *,
    increase=1.05,
    decrease=0.7,
    tolerance=1.04,
    decay=0.0,
    window=1,
    min_scale=1e-3,
    max_scale=1e3,
    mode="min",
):
    """Raise the scale when the evaluation fell, cut it when it rose."""
    del gradients
    means = [
        m if mode == "min" or m is None else -m for m in means_over(window, metrics)
    ]
    smoothed = averages([m for m in means if m is not None], decay)
    scale, before = 1.0, None
    for mean in means:
        if mean is not None:
            now = next(smoothed)
            if before is not None and now < before:
                scale = min(scale * increase, max_scale)
            elif before is not None and now > before + (tolerance - 1) * abs(before):
                scale = max(scale * decrease, min_scale)
            before = now
        yield scale


CONTRACT = Contract(
    reference,
    goals={"quadratic": Goal(200, 1e-2)},
)

ARGUMENTS = {
    "by default": {},
    "with averages": {"decay": 0.8},
    "over windows": {"window": 3, "tolerance": 1.0},
    "within bounds": {"min_scale": 0.6, "max_scale": 1.2, "increase": 1.1},
    "for the largest": {"mode": "max"},
}


@pytest.mark.parametrize("metrics", METRICS.values(), ids=METRICS)
@pytest.mark.parametrize("arguments", ARGUMENTS.values(), ids=ARGUMENTS)
def test_it_moves_as_the_rule_says(arguments, metrics):
    assert_follows(reference, adaptax.bold_driver, metrics, **arguments)


def test_between_the_last_loss_and_the_tolerance_nothing_changes():
    scales, state = run(adaptax.bold_driver(tolerance=1.5), [4, 5, 7, 10.6])
    np.testing.assert_allclose(scales, [1, 1, 1, 0.7], rtol=1e-6)
    assert int(followed(state).last_change) == -1


def test_a_negative_loss_has_a_tolerance_too():
    scales, _ = run(adaptax.bold_driver(tolerance=1.04), [-1.0, -0.97, -0.9])
    np.testing.assert_allclose(scales, [1, 1, 0.7], rtol=1e-6)


def test_telemetry_says_what_changed_and_when():
    _, state = run(adaptax.bold_driver(tolerance=1.0), [5, 4, 3, 6, 6, 6])
    shown = adaptax.telemetry(state)
    assert shown["bold_driver/raises"] == 2
    assert shown["bold_driver/cuts"] == 1
    assert shown["bold_driver/last_change"] == 0
    assert shown["bold_driver/step"] == 6
    assert shown["bold_driver/changed_at"] == 3
    assert shown["bold_driver/learning_rate"] == adaptax.learning_rate(state)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_not_finite_is_passed_over(bad):
    driver = adaptax.bold_driver(decay=0.5)
    clean, _ = run(driver, [3, 2, 4, 1])
    scales, state = run(driver, [3, 2, bad, 4, bad, 1])
    np.testing.assert_array_equal(scales[[0, 1, 3, 5]], clean)
    assert int(state.skipped) == 2


def test_the_largest_losses_keep_the_state_finite():
    largest = float(np.finfo(np.float32).max)
    metrics = [largest, largest, -largest, largest, -largest, -largest]
    _, state = run(adaptax.bold_driver(decay=0.5, window=2), metrics)
    assert all(np.isfinite(leaf) for leaf in jax.tree.leaves(state))


def test_it_settles_from_a_rate_much_too_small_and_from_one_much_too_large():
    curvature = jnp.linspace(0.1, 1.0, 8)

    def loss(w):
        return jnp.sum(curvature * w * w) / 2

    @jax.jit
    @jax.vmap
    def reached(rate):
        driver = adaptax.bold_driver()
        optimizer = adaptax.gradient_descent(
            optax.chain(adaptax.constant(rate), driver)
        )

        def step(carry, _):
            w, state = carry
            value, gradient = jax.value_and_grad(loss)(w)
            update, state = optimizer.update(gradient, state, w, value=value)
            return (w + update, state), value

        start = jnp.ones(8)
        return jax.lax.scan(step, (start, optimizer.init(start)), length=300)[1][-1]

    assert np.all(reached(jnp.asarray([0.01, 3.0])) < 1e-3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"increase": 0.9}, "increase must be >= 1"),
        ({"increase": np.inf}, "increase must"),
        ({"decrease": 0.0}, "decrease must"),
        ({"decrease": 1.0}, "decrease must"),
        ({"tolerance": 0.5}, "tolerance must be >= 1"),
        ({"decay": 1.0}, "decay must"),
        ({"window": 0}, "window must be >= 1"),
        ({"min_scale": 2.0}, "min_scale must"),
        ({"max_scale": 0.5}, "max_scale must be >= 1"),
        ({"mode": "least"}, "mode must be one of"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments, says):
    with pytest.raises(ValueError, match=says):
        adaptax.bold_driver(**arguments)
