import numpy as np
import optax
from conformance.contracts import Contract, Goal
from steps import assert_same_steps

import adaptax


def reference(
    w, gradients, values, *, learning_rate, initial_sum=0.0, eps=0.0, eps_root=1e-8
):
    """G ← G + g²;  w ← w − α g / (√(G + ε₀) + ε)."""
    G = np.full_like(w, initial_sum)
    for g in gradients:
        G = G + g**2
        w = w - learning_rate * g / (np.sqrt(G + eps_root) + eps)
        yield w


CONTRACT = Contract(
    reference,
    elementwise=True,
    optax_forms=("optax.adagrad",),
    goals={
        "quadratic": Goal(200, 1e-2),
        "regression": Goal(300, 0.15),
        "complex_parabola": Goal(500, 1e-2, {"learning_rate": 1.0}),
        "complex_rosenbrock": Goal(2000, 0.05, {"learning_rate": 0.1}),
    },
)


def directions(gradients, **arguments):
    direction = adaptax.scale_by_adagrad(**arguments)
    state, updates = direction.init(np.float32(0)), []
    for gradient in gradients:
        update, state = direction.update(np.float32(gradient), state)
        updates.append(float(update))
    return updates


def test_equal_gradients_give_steps_that_shrink_like_the_root():
    expected = 1 / np.sqrt(np.arange(1, 8))
    np.testing.assert_allclose(directions([5.0] * 7), expected, rtol=1e-6)


def test_steps_do_not_depend_on_the_scale_of_the_gradients():
    gradients = np.array([1.0, -3.0, 0.5])
    np.testing.assert_allclose(
        directions(gradients, eps_root=0.0),
        directions(1024 * gradients, eps_root=0.0),
        rtol=1e-6,
    )


def test_the_initial_sum_counts_as_gradients_seen_before():
    later = directions([2.0, 1.0])[1:]
    np.testing.assert_allclose(directions([1.0], initial_sum=4.0), later, rtol=1e-6)


def test_no_eps_at_all_gives_no_step_at_zero():
    assert directions([0.0], eps=0.0, eps_root=0.0) == [0.0]


def test_with_optax_start_it_is_adagrad_as_optax_has_it():
    assert_same_steps(
        adaptax.adagrad(0.1, initial_sum=0.1, eps_root=1e-7), optax.adagrad(0.1)
    )
