import chex
import jax
import numpy as np
import optax
from conformance.contracts import Contract, Goal
from conformance.problems import MATRIX, SCALAR
from steps import PARAMS, gradients, updates_of

import adaptax


def reference(
    w, gradients, values, *, learning_rate, b1, b2, eps, eps_root, weight_decay
):
    """u = m̂ / (√(v̂ + ε₀) + ε) + λ w;  w ← w − α ‖w‖/‖u‖ u in each leaf."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
        u = m_hat / (np.sqrt(v_hat + eps_root) + eps) + weight_decay * w
        w = w.copy()
        for leaf in (MATRIX, SCALAR):
            ratio = np.linalg.norm(w[leaf]) / np.linalg.norm(u[leaf])
            w[leaf] -= learning_rate * ratio * u[leaf]
        yield w


CONTRACT = Contract(
    reference,
    by_leaf=True,
    breaks={"zero_gradients": "the weights decay"},
    optax_forms=("optax.lamb",),
    optax_twin=lambda: optax.lamb(0.1, 0.8, 0.99, 1e-6, 1e-7, weight_decay=0.01),
    goals={
        "quadratic": Goal(300, 1e-2),
        "complex_parabola": Goal(
            500, 1e-2, {"learning_rate": 0.01, "weight_decay": 0.0}
        ),
        "complex_rosenbrock": Goal(
            10000, 0.05, {"learning_rate": 0.001, "weight_decay": 0.0}
        ),
    },
)


def norms(tree):
    return jax.tree.map(lambda leaf: np.linalg.norm(np.asarray(leaf).ravel()), tree)


def test_each_leaf_moves_by_the_rate_times_its_own_length():
    (update,) = updates_of(adaptax.lamb(0.125, weight_decay=0.1), gradients(1))
    expected = jax.tree.map(lambda norm: 0.125 * norm, norms(PARAMS))
    chex.assert_trees_all_close(norms(update), expected, rtol=1e-5)


def test_the_direction_is_that_of_adamw():
    arguments = {"b1": 0.8, "b2": 0.9, "eps": 1e-6, "weight_decay": 0.1}
    (ours,) = updates_of(adaptax.scale_by_lamb(**arguments), gradients(1))
    (adams,) = updates_of(adaptax.scale_by_adamw(**arguments), gradients(1))
    unit = [jax.tree.map(np.divide, tree, norms(tree)) for tree in (ours, adams)]
    chex.assert_trees_all_close(*unit, rtol=1e-5)


def test_weights_of_zero_take_the_step_of_adam():
    zeros = jax.tree.map(np.zeros_like, PARAMS)
    (ours,) = updates_of(adaptax.scale_by_lamb(), gradients(1), zeros)
    (adams,) = updates_of(adaptax.scale_by_adam(eps=1e-6), gradients(1), zeros)
    chex.assert_trees_all_equal(ours, adams)


def test_weights_whose_length_overflows_do_not_spoil_the_step():
    huge = jax.tree.map(lambda leaf: np.full_like(leaf, 1e30), PARAMS)
    (ours,) = updates_of(adaptax.scale_by_lamb(), gradients(1), huge)
    (adams,) = updates_of(adaptax.scale_by_adam(eps=1e-6), gradients(1), huge)
    chex.assert_trees_all_equal(ours["matrix"], adams["matrix"])


def test_a_bad_element_does_not_count_in_the_length():
    (gradient,) = gradients(1)
    gradient["matrix"][2, 1] = np.nan
    (update,) = updates_of(adaptax.scale_by_lamb(), [gradient])
    assert update["matrix"][2, 1] == 0
    chex.assert_trees_all_close(norms(update), norms(PARAMS), rtol=1e-5)
