"""`prodigy`: its equations as a NumPy loop, and what is asked of it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.contracts import Contract, Goal
from test_nadam import reference as nadam

import adaptax


def reference(
    x,
    gradients,
    values,
    *,
    learning_rate=1.0,
    b1=0.9,
    b2=0.999,
    b3=None,
    eps=1e-8,
    d0=1e-6,
    d_coef=1.0,
    weight_decay=0.0,
    growth=None,
    freeze_after=None,
    nesterov=False,
    bias_correction=True,
    safeguard_warmup=False,
    slice_p=1,
):
    """Adam at the rate α d, where d ← max(d, min(κ r / ‖s‖₁, G d)).

    Leaves are sliced each for itself; a p that divides the size of all but the last is
    that of the whole.
    """
    b3 = np.sqrt(b2) if b3 is None else b3
    growth = np.inf if growth is None else growth
    x0, m, v, r, s = x, np.zeros_like(x), np.zeros_like(x), 0.0, np.zeros_like(x)
    d = d0
    alphas = np.broadcast_to(learning_rate, len(gradients))
    t = 0
    for g, alpha in zip(gradients, alphas, strict=True):
        if alpha == 0:
            yield x, 0.0
            continue
        t += 1
        c = np.sqrt(1 - b2**t) / (1 - b1**t) if bias_correction else 1.0
        gamma = alpha * d * c
        r = b3 * r + d / d0 * gamma * np.sum((g * (x0 - x))[::slice_p])
        s = b3 * s + d / d0 * (d if safeguard_warmup else gamma) * g
        m = b1 * m + (1 - b1) * d * g
        v = b2 * v + (1 - b2) * d**2 * g**2
        estimate = d_coef * r / np.sum(np.abs(s[::slice_p]))
        dg, ahead = d * g, m
        if nesterov:
            bias = [1 - b1**t, 1 - b1 ** (t + 1)] if bias_correction else [1, 1]
            ahead = b1 * m * bias[0] / bias[1] + (1 - b1) * dg
        if freeze_after is None or t <= freeze_after:
            cap = growth(t - 1) if callable(growth) else growth
            d = max(d, min(estimate, cap * d))
        x = x - gamma * (ahead / (np.sqrt(v) + d * eps) + weight_decay * x)
        yield x, gamma


CONTRACT = Contract(
    reference,
    by_leaf="slice_p",
    static=frozenset({"slice_p"}),
    optax_forms=("optax.contrib.prodigy",),
    optax_twin=lambda: optax.contrib.prodigy(
        0.8,
        (0.8, 0.99),
        eps=1e-6,
        estim_lr0=0.01,
        estim_lr_coef=0.9,
        weight_decay=0.02,
    ),
    goals={
        "quadratic": Goal(300, 1e-2),
        "complex_parabola": Goal(
            500, 1e-2, {"learning_rate": 0.1, "weight_decay": 0.0}
        ),
        "complex_rosenbrock": Goal(
            1000, 0.01, {"learning_rate": 0.03, "weight_decay": 0.0}
        ),
    },
)

RANDOM = np.random.default_rng(2)
START = RANDOM.normal(size=6)
SPIKE = np.concatenate([np.full((6, 6), 1.0), RANDOM.normal(size=(34, 6))])
"""Gradients that agree for six steps, so that d̂ rises early, and then do not."""


def run(gradients=SPIKE, **arguments):
    """Return the points and the distances of a run along given gradients."""

    def step(carry, g):
        x, state = carry
        updates, state = optimizer.update(g, state, x)
        return (x + updates, state), (x + updates, state.distance)

    with jax.enable_x64(True):
        optimizer, start = adaptax.prodigy(**arguments), jnp.asarray(START)
        carry = start, optimizer.init(start)
        return jax.lax.scan(step, carry, jnp.asarray(gradients))[1]


def test_d_does_not_climb_towards_an_estimate_of_the_past():
    _, free = run(d0=0.01)
    _, capped = run(d0=0.01, growth=1.05)
    still = np.flatnonzero(np.diff(capped) == 0)
    assert 0.01 < capped[-1] < 0.5 * free.max()  # there was a larger estimate
    assert still.size > 10


@pytest.mark.parametrize(
    "growth", [1.1, lambda step: 1 + 1 / (2 * step + 2), lambda step: 0.5]
)
def test_the_cap_of_the_growth_is_a_number_or_a_function_of_the_step(growth):
    points, distances = run(d0=0.01, growth=growth)
    expected = reference(START, SPIKE, None, d0=0.01, growth=growth)
    np.testing.assert_allclose(points, [x for x, _ in expected], rtol=1e-5)
    caps = [growth(step) if callable(growth) else growth for step in range(len(SPIKE))]
    ratios = np.divide(distances, np.concatenate([[0.01], distances[:-1]]))
    np.testing.assert_array_less(ratios, np.maximum(caps, 1) + 1e-6)


def test_a_cap_that_is_not_a_number_lets_d_stay():
    _, distances = run(d0=0.01, growth=lambda step: jnp.nan)
    np.testing.assert_array_equal(distances, np.float32(0.01))


def test_looking_ahead_is_what_nadam_does():
    points, _ = run(nesterov=True, d0=0.1, d_coef=1e-9, eps=0.0)
    arguments = {"b1": 0.9, "b2": 0.999, "eps": 0.0, "eps_root": 0.0}
    expected = nadam(START, SPIKE, None, learning_rate=0.1, **arguments)
    np.testing.assert_allclose(points, list(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("growth", "error", "message"),
    [
        (lambda step: jnp.ones(2), ValueError, "growth must return a scalar"),
        (lambda step: 1j, TypeError, "growth must return a real number"),
        ("1.05", TypeError, "growth must be a number or a function of the step"),
    ],
)
def test_a_cap_that_is_none_is_refused(growth, error, message):
    with pytest.raises(error, match=message):
        jax.eval_shape(lambda: run(growth=growth))
