"""What a controller does, metric by metric."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def run(controller: Any, metrics: Any) -> tuple[np.ndarray, Any]:
    """Return the scale that each metric leads to, and the last state, from one scan."""

    def step(state, metric):
        scale, state = controller.update(jnp.ones(()), state, value=metric)
        return state, scale

    metrics = jnp.asarray(np.asarray(metrics, np.float32))
    state, scales = jax.jit(
        lambda metrics: jax.lax.scan(step, controller.init(()), metrics)
    )(metrics)
    return np.asarray(scales), state


def followed(state: Any) -> Any:
    """Return the state of a controller's method."""
    (method,) = state.followed.values()
    return method


def assert_follows(rule: Any, controller: Any, metrics: Any, /, **arguments: Any):
    """Show that a controller gives the scales of its rule."""
    expected = list(rule([float(m) for m in np.float32(metrics)], **arguments))
    got, _ = run(controller(**arguments), metrics)
    np.testing.assert_allclose(got, expected, rtol=2e-6)
    return got


NOISE = np.random.default_rng(5)
METRICS = {
    "falling, then flat": np.r_[np.linspace(3, 1, 12), np.ones(18)],
    "falling below zero": np.linspace(3, -3, 30),
    "rising below zero": np.linspace(-3, -1, 30),
    "of any kind": NOISE.normal(size=40),
    "noisy and falling": np.exp(-np.arange(40) / 9) + 0.05 * NOISE.normal(size=40),
    "flat and negative": np.full(20, -2.0),
}
