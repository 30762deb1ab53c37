import numpy as np
import optax
import pytest
from conformance.contracts import Contract, Goal
from steps import PARAMS, assert_same_steps

import adaptax


def reference(
    w, gradients, values, *, learning_rate, b, dampening=None, nesterov=False
):
    """v ← b v + (1 − d) g;  w ← w − α v."""
    d = b if dampening is None else dampening
    v = np.zeros_like(w)
    for g in gradients:
        v = b * v + (1 - d) * g
        w = w - learning_rate * (b * v + (1 - d) * g if nesterov else v)
        yield w


CONTRACT = Contract(
    reference,
    elementwise=True,
    optax_forms=("optax.sgd",),
    optax_twin=lambda: optax.chain(optax.scale(1 - 0.8), optax.sgd(0.1, momentum=0.8)),
    goals={
        "quadratic": Goal(200, 1e-2),
        "ill_conditioned": Goal(200, 5e-3, {"learning_rate": 1.0}),
        "complex_parabola": Goal(500, 1e-2, {"learning_rate": 0.01}),
        "complex_rosenbrock": Goal(1000, 0.05, {"learning_rate": 0.01}),
    },
)


@pytest.mark.parametrize("nesterov", [False, True])
def test_without_averaging_it_is_gradient_descent(nesterov):
    assert_same_steps(
        adaptax.momentum(0.1, b=0.0, nesterov=nesterov), adaptax.gradient_descent(0.1)
    )


def test_undamped_steps_are_those_of_the_average_at_a_longer_rate():
    assert_same_steps(
        adaptax.momentum(0.1, b=0.75, dampening=0.0),
        adaptax.momentum(0.1 / (1 - 0.75), b=0.75),
    )


@pytest.mark.parametrize("nesterov", [False, True])
def test_undamped_it_is_momentum_as_optax_has_it(nesterov):
    assert_same_steps(
        adaptax.momentum(0.1, b=0.75, dampening=0.0, nesterov=nesterov),
        optax.sgd(0.1, momentum=0.75, nesterov=nesterov),
    )


def test_nesterov_adds_the_newest_gradient_once_more():
    b = 0.75
    plain, ahead = (
        adaptax.scale_by_momentum(b, nesterov=flag) for flag in (False, True)
    )
    gradient = {"matrix": np.ones((8, 2), np.float32), "scalar": np.float32(2)}
    average, _ = plain.update(gradient, plain.init(PARAMS))
    looked, _ = ahead.update(gradient, ahead.init(PARAMS))
    for name in gradient:
        expected = b * average[name] + (1 - b) * gradient[name]
        np.testing.assert_allclose(looked[name], expected, rtol=1e-6)


def test_a_constant_gradient_is_averaged_to_itself():
    b, direction = 0.5, adaptax.scale_by_momentum(0.5)
    state = direction.init(np.float32(0))
    for step in range(1, 20):
        update, state = direction.update(np.float32(3), state)
        np.testing.assert_allclose(update, 3 * (1 - b**step), rtol=1e-6)
