"""`prodigy_distance`: its equations as a NumPy loop, and what is asked of it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.contracts import Contract, Goal
from reference.momentum import Momentum

import adaptax


def reference(
    x,
    gradients,
    values,
    *,
    learning_rate,
    b3,
    d0,
    d_coef,
    growth=np.inf,
    freeze_after=np.inf,
    safeguard_warmup=False,
    slice_p=1,
):
    """Momentum of d g, times d, where d ← max(d, min(κ r / ‖s‖₁, G d))."""
    x0, r, s, d, inner = x, 0.0, np.zeros_like(x), d0, Momentum(x, 1.0)
    alphas = np.broadcast_to(learning_rate, len(gradients))
    for t, (g, alpha) in enumerate(zip(gradients, alphas, strict=True)):
        r = b3 * r + d / d0 * alpha * d * np.sum((g * (x0 - x))[::slice_p])
        s = b3 * s + d / d0 * d * (1 if safeguard_warmup else alpha) * g
        x = x + alpha * d * inner.step(d * g)
        yield x, alpha * d
        if t < freeze_after:
            estimate = d_coef * r / np.sum(np.abs(s[::slice_p]))
            d = max(d, min(estimate, growth * d))


CONTRACT = Contract(
    reference,
    by_leaf="slice_p",
    static=frozenset({"slice_p"}),
    steady=None,
    goals={"quadratic": Goal(300, 1e-2, {"d0": 0.3, "d_coef": 2.0})},
)

RANDOM = np.random.default_rng(4)
START = RANDOM.normal(size=7)
GRADIENTS = RANDOM.normal(size=(40, 7)) + 1


def plain_adamw(rate, b1, b2, weight_decay):
    """AdamW that does not correct the bias of its averages, with ε = 0."""

    def init(params):
        return jnp.zeros_like(params), jnp.zeros_like(params)

    def update(g, state, params=None):
        m, v = b1 * state[0] + (1 - b1) * g, b2 * state[1] + (1 - b2) * g**2
        return m / jnp.sqrt(v), (m, v)

    direction = optax.GradientTransformation(init, update)
    decayed = adaptax.with_weight_decay(direction, weight_decay)
    return optax.chain(decayed, adaptax.descend(rate))


def run(optimizer, gradients=GRADIENTS):
    """Return the points and the rates of a run along given gradients, in float64."""

    def step(carry, g):
        x, state = carry
        updates, state = optimizer.update(g, state, x)
        x = x + updates
        return (x, state), (x, adaptax.learning_rate(state))

    start = jnp.asarray(START)
    return jax.lax.scan(step, (start, optimizer.init(start)), jnp.asarray(gradients))


@pytest.mark.parametrize(
    "arguments",
    [
        {"d0": 0.01},
        {"d0": 0.02, "d_coef": 2.0, "growth": lambda step: 1 + 2 / (step + 1)},
        {"d0": 0.01, "safeguard_warmup": True, "slice_p": 3, "freeze_after": 20},
    ],
    ids=["plain", "capped", "sliced"],
)
def test_around_an_adamw_without_correction_it_is_prodigy(arguments):
    def rate(step):
        return 0.5 + 0.5 * jnp.cos(step / 7)

    averages = {"b1": 0.8, "b2": 0.9, "weight_decay": 0.1}
    with jax.enable_x64(True):
        whole = adaptax.prodigy(
            rate, **averages, eps=0.0, bias_correction=False, **arguments
        )
        inner = plain_adamw(rate, **averages)
        wrapped = adaptax.prodigy_distance(inner, b3=0.9**0.5, **arguments)
        (_, expected_state), (expected, rates) = run(whole)
        (_, state), (points, shown) = run(wrapped)
    np.testing.assert_allclose(points, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(shown, rates, rtol=1e-5)
    assert state.distance > 2 * arguments["d0"]
    np.testing.assert_allclose(state.distance, expected_state.distance, rtol=1e-5)


def test_steps_at_a_rate_of_zero_do_not_count_but_the_schedule_goes_on():
    optimizer = adaptax.prodigy_distance(
        adaptax.lion(lambda step: jnp.where(step < 3, 0.0, 1.0)), d0=0.1
    )

    def step(carry, _):
        x, state = carry
        updates, state = optimizer.update(jnp.ones(2), state, x)
        return (x + updates, state), (state.step, state.skipped, x[0])

    x = jnp.ones(2)
    _, (counted, skipped, at) = jax.lax.scan(step, (x, optimizer.init(x)), length=6)
    np.testing.assert_array_equal(counted, [0, 0, 0, 1, 2, 3])
    np.testing.assert_array_equal(skipped, 0)
    np.testing.assert_array_equal(at[:4], 1.0)
    assert at[4] < 1


def test_half_precision_does_not_lose_small_gradients():
    optimizer = adaptax.prodigy_distance(adaptax.adam(1.0, eps=0.0), d0=1e-6)
    x = jnp.full(3, 0.0, jnp.float16)
    gradient = jnp.full(3, 1e-3, jnp.float16)
    updates, state = jax.jit(optimizer.update)(gradient, optimizer.init(x), x)
    assert updates.dtype == jnp.float16
    assert jnp.all(state.inner_state[0].mean > 0)
    np.testing.assert_allclose(updates, -1e-6, rtol=0.05)


def test_telemetry_shows_the_distance():
    optimizer = adaptax.prodigy_distance(adaptax.lion(0.5), d0=0.25)
    shown = adaptax.telemetry(optimizer.init(jnp.ones(2)))
    assert shown["prodigy_distance/distance"] == 0.25
    assert adaptax.learning_rate(optimizer.init(jnp.ones(2))) == 0.125
