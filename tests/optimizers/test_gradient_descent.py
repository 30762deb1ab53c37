import jax
import jax.numpy as jnp
import numpy as np
import optax
from conformance.contracts import Contract, Goal
from steps import PARAMS, assert_same_steps, gradients

import adaptax


def reference(w, gradients, values, *, learning_rate):
    """w ← w − α g."""
    for g in gradients:
        w = w - learning_rate * g
        yield w


CONTRACT = Contract(
    reference,
    elementwise=True,
    optax_forms=("optax.sgd",),
    optax_twin=lambda: optax.sgd(0.1),
    goals={
        "quadratic": Goal(200, 1e-2),
        "complex_parabola": Goal(500, 1e-2, {"learning_rate": 0.01}),
        "complex_rosenbrock": Goal(2000, 0.15, {"learning_rate": 0.001}),
    },
)


def test_the_direction_is_the_gradient():
    (gradient,) = gradients(1)
    direction = adaptax.scale_by_gradient_descent()
    updates, _ = direction.update(gradient, direction.init(PARAMS))
    jax.tree.map(np.testing.assert_array_equal, updates, gradient)


def test_on_a_quadratic_it_contracts_by_the_known_factor():
    curvature, rate, optimizer = 0.5, 0.25, adaptax.gradient_descent(0.25)
    x = jnp.ones(())
    state = optimizer.init(x)
    for step in range(1, 6):
        updates, state = optimizer.update(curvature * x, state)
        x = optax.apply_updates(x, updates)
        np.testing.assert_allclose(x, (1 - rate * curvature) ** step, rtol=1e-6)


def test_it_equals_any_other_way_to_descend_at_that_rate():
    assert_same_steps(
        adaptax.gradient_descent(0.3),
        optax.chain(adaptax.scale_by_gradient_descent(), adaptax.descend(0.3)),
    )
    assert_same_steps(adaptax.gradient_descent(0.3), optax.sgd(0.3))
