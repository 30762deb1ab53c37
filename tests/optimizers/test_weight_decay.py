import jax
import numpy as np
import optax
import pytest
from steps import PARAMS, assert_same_steps, gradients

import adaptax

DIRECTION = adaptax.scale_by_gradient_descent()


def test_behind_gradient_descent_it_is_the_gradient_of_a_square():
    penalty, rate = 0.3, 0.1
    decayed = adaptax.with_weight_decay(DIRECTION, penalty)
    optimizer = optax.chain(decayed, adaptax.descend(rate))
    (gradient,) = gradients(1)
    updates, _ = optimizer.update(gradient, optimizer.init(PARAMS), PARAMS)
    square = jax.grad(
        lambda w: sum(penalty / 2 * (x * x).sum() for x in jax.tree.leaves(w))
    )(PARAMS)
    expected = jax.tree.map(lambda g, s: -rate * (g + s), gradient, square)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), updates, expected
    )


@pytest.mark.parametrize("mask", [None, True, {"matrix": True, "scalar": True}])
def test_a_mask_may_be_a_prefix_of_the_parameters(mask):
    assert_same_steps(
        adaptax.with_weight_decay(DIRECTION, 0.3, mask),
        optax.chain(DIRECTION, optax.add_decayed_weights(0.3)),
    )


def test_without_parameters_it_says_what_to_pass():
    decayed = adaptax.with_weight_decay(DIRECTION, 0.3)
    (gradient,) = gradients(1)
    with pytest.raises(ValueError, match=r"needs the parameters: call tx\.update"):
        decayed.update(gradient, decayed.init(PARAMS))


def test_it_hands_extra_arguments_to_the_direction():
    decayed = adaptax.with_weight_decay(adaptax.reduce_on_plateau(), 0.3)
    (gradient,) = gradients(1)
    decayed.update(gradient, decayed.init(PARAMS), PARAMS, value=1.0)
    with pytest.raises(TypeError, match="value"):
        decayed.update(gradient, decayed.init(PARAMS), PARAMS)
