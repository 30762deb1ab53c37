import chex
import jax
import numpy as np
import optax
import pytest
from conformance.contracts import Contract, Goal
from steps import PARAMS, assert_same_steps, gradients, updates_of
from test_adam import reference as adam

import adaptax

CONTRACT = Contract(
    adam,
    elementwise=True,
    breaks={"zero_gradients": "the weights decay"},
    optax_forms=("optax.adamw", "optax.nadamw"),
    optax_twin=lambda: optax.adamw(0.1, 0.8, 0.99, 1e-6, 1e-7, weight_decay=0.01),
    goals={
        "quadratic": Goal(300, 1e-2, {"weight_decay": 1e-4}),
        "rosenbrock": Goal(500, 1e-2, {"weight_decay": 1e-5}),
        "complex_parabola": Goal(
            500, 1e-2, {"learning_rate": 0.1, "weight_decay": 0.0}
        ),
        "complex_rosenbrock": Goal(
            1000, 0.01, {"learning_rate": 0.003, "weight_decay": 0.0}
        ),
    },
)

ZEROS = jax.tree.map(np.zeros_like, PARAMS)


def test_without_decay_it_is_adam():
    assert_same_steps(adaptax.adamw(0.1, weight_decay=0.0), adaptax.adam(0.1))


def test_zero_gradients_shrink_the_weights_by_rate_times_decay():
    (update,) = updates_of(adaptax.adamw(0.5, weight_decay=0.1), [ZEROS])
    expected = jax.tree.map(lambda w: -0.5 * 0.1 * w, PARAMS)
    chex.assert_trees_all_close(update, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "mask",
    [
        {"matrix": True, "scalar": False},
        lambda params: jax.tree.map(lambda w: np.ndim(w) > 1, params),
    ],
)
def test_the_mask_says_what_decays(mask):
    (update,) = updates_of(adaptax.adamw(0.5, weight_decay=0.1, mask=mask), [ZEROS])
    np.testing.assert_allclose(update["matrix"], -0.05 * PARAMS["matrix"], rtol=1e-6)
    assert update["scalar"] == 0


def test_a_coordinate_with_a_bad_gradient_decays_as_with_a_gradient_of_0():
    (gradient,) = gradients(1)
    gradient["matrix"][3, 1] = np.nan
    (update,) = updates_of(adaptax.adamw(0.5, weight_decay=0.1), [gradient])
    decay = -0.05 * PARAMS["matrix"][3, 1]
    np.testing.assert_allclose(update["matrix"][3, 1], decay, rtol=1e-6)
