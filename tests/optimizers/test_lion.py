import jax.numpy as jnp
import numpy as np
import optax
from conformance.contracts import Contract, Goal
from steps import assert_same_steps, updates_of

import adaptax


def reference(w, gradients, values, *, learning_rate, b1, b2, weight_decay):
    """w ← w − α (sign(β₁ m + (1 − β₁) g) + λ w);  m ← β₂ m + (1 − β₂) g."""
    m = np.zeros_like(w)
    for g in gradients:
        u = np.sign(b1 * m + (1 - b1) * g)
        w = w - learning_rate * (u + weight_decay * w)
        m = b2 * m + (1 - b2) * g
        yield w


CONTRACT = Contract(
    reference,
    elementwise=True,
    breaks={"zero_gradients": "the weights decay"},
    optax_forms=("optax.lion",),
    optax_twin=lambda: optax.lion(0.01, 0.9, 0.99, weight_decay=0.01),
    goals={
        "quadratic": Goal(300, 1e-1, {"weight_decay": 1e-4}),
        "complex_parabola": Goal(
            500, 1e-2, {"learning_rate": 0.1, "weight_decay": 0.0}
        ),
        "complex_rosenbrock": Goal(
            2000, 0.05, {"learning_rate": 0.001, "weight_decay": 0.0}
        ),
    },
)


def test_every_step_is_the_rate_long_in_every_coordinate():
    for update in updates_of(adaptax.lion(0.25, weight_decay=0.0)):
        for leaf in update.values():
            np.testing.assert_array_equal(np.abs(leaf), 0.25)


def test_without_averages_it_follows_the_sign_of_the_gradient():
    assert_same_steps(
        adaptax.lion(0.25, b1=0.0, b2=0.0, weight_decay=0.0),
        adaptax.adam(0.25, b1=0.0, b2=0.0, eps=0.0),
    )


def test_a_gradient_of_zero_follows_the_average_alone():
    direction = adaptax.scale_by_lion()
    state = direction.init(np.float32(0))
    update, state = direction.update(np.float32(0), state)
    assert update == 0
    _, state = direction.update(np.float32(-2), state)
    update, state = direction.update(np.float32(0), state)
    assert update == -1


def test_decay_is_added_to_the_sign():
    behind = optax.chain(
        adaptax.scale_by_lion(), optax.add_decayed_weights(0.1), adaptax.descend(0.25)
    )
    assert_same_steps(adaptax.lion(0.25, weight_decay=0.1), behind)


def test_a_gradient_without_a_state_passes_through():
    direction = adaptax.scale_by_lion()
    state = direction.init({"weights": jnp.ones(2), "counts": jnp.arange(2)})
    gradients = {"weights": jnp.full(2, -2.5), "counts": jnp.full(2, 2.5)}
    updates, _ = direction.update(gradients, state)
    np.testing.assert_array_equal(updates["weights"], -1)
    assert updates["counts"] is gradients["counts"]
