import numpy as np
import optax
import pytest
from conformance.contracts import Contract, Goal
from steps import assert_same_steps

import adaptax


def reference(
    w,
    gradients,
    values,
    *,
    learning_rate,
    decay,
    momentum=None,
    centered=False,
    debias=False,
    eps=0.0,
    eps_root=1e-8,
):
    """s ← ρ s + (1 − ρ) g²;  m ← β m + (1 − β) g;  w ← w − α m / (√(s + ε₀) + ε)."""
    beta = 0.0 if momentum is None else momentum
    s, m, mean = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        s = decay * s + (1 - decay) * g**2
        m = beta * m + (1 - beta) * g
        mean = decay * mean + (1 - decay) * g
        s_hat, m_hat, mean_hat = s, m, mean
        if debias:
            s_hat, mean_hat = s / (1 - decay**t), mean / (1 - decay**t)
            m_hat = m / (1 - beta**t)
        spread = s_hat - mean_hat**2 if centered else s_hat
        w = w - learning_rate * m_hat / (np.sqrt(spread + eps_root) + eps)
        yield w


CONTRACT = Contract(
    reference,
    elementwise=True,
    optax_forms=("optax.rmsprop",),
    goals={
        "quadratic": Goal(300, 1e-2),
        "complex_parabola": Goal(500, 1e-2, {"learning_rate": 0.03}),
        "complex_rosenbrock": Goal(2000, 0.1, {"learning_rate": 0.001}),
    },
)


@pytest.mark.parametrize("eps", [1e-8, 1e-2])
def test_debiased_with_momentum_it_is_adam(eps):
    assert_same_steps(
        adaptax.rmsprop(0.1, decay=0.9, momentum=0.9, debias=True, eps=eps),
        adaptax.adam(0.1, b1=0.9, b2=0.9, eps=eps),
    )


def test_momentum_of_zero_is_none():
    assert_same_steps(
        adaptax.rmsprop(0.1, decay=0.9, momentum=0.0), adaptax.rmsprop(0.1, decay=0.9)
    )


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_without_momentum_it_is_rmsprop_as_optax_has_it(centered, inside):
    eps = {"eps_root": 1e-3} if inside else {"eps": 1e-3}
    assert_same_steps(
        adaptax.rmsprop(0.1, decay=0.9, centered=centered, **eps),
        optax.rmsprop(0.1, decay=0.9, centered=centered, eps=1e-3, eps_in_sqrt=inside),
    )


def test_eps_outside_replaces_the_one_inside():
    assert_same_steps(
        adaptax.rmsprop(0.1, eps=1e-3), adaptax.rmsprop(0.1, eps=1e-3, eps_root=0.0)
    )
    assert_same_steps(
        adaptax.rmsprop(0.1), adaptax.rmsprop(0.1, eps=0.0, eps_root=1e-8)
    )


def test_a_debiased_average_of_equal_gradients_is_the_gradient():
    direction = adaptax.scale_by_rmsprop(0.9, debias=True, eps_root=0.0)
    state = direction.init(np.float32(0))
    for _ in range(5):
        update, state = direction.update(np.float32(-7), state)
        np.testing.assert_allclose(update, -1, rtol=1e-6)


def test_centered_it_divides_by_what_differs_from_the_mean():
    direction = adaptax.scale_by_rmsprop(0.9, centered=True, debias=True, eps=1.0)
    state = direction.init(np.float32(0))
    for _ in range(5):
        update, state = direction.update(np.float32(3), state)
        np.testing.assert_allclose(update, 3, rtol=1e-3)


def test_momentum_after_the_division_is_a_chain():
    chained = optax.chain(
        adaptax.scale_by_rmsprop(0.9, eps=1e-3),
        adaptax.scale_by_momentum(0.8, dampening=0.0),
        adaptax.descend(0.1),
    )
    assert_same_steps(
        chained,
        optax.rmsprop(0.1, decay=0.9, eps=1e-3, momentum=0.8, eps_in_sqrt=False),
    )
