"""`self_tuning`: its equations as a NumPy loop, its parts, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.contracts import Contract, Goal
from conformance.problems import MATRIX, SCALAR
from test_prodigy import reference as prodigy_reference

import adaptax


class Muon:
    """Orthogonalized averages of an 8 × 2 matrix, and Adam for the scalar behind it."""

    def __init__(self, b1, b2, eps):
        self.b1, self.b2, self.eps = b1, b2, eps
        self.t, self.M, self.m, self.v = 0, np.zeros((8, 2)), 0.0, 0.0

    def step(self, g, b=0.95):
        self.t, G, a = self.t + 1, g[MATRIX].reshape(8, 2), g[SCALAR]
        self.M = b * self.M + (1 - b) * G
        X = b * self.M / (1 - b ** (self.t + 1)) + (1 - b) * G / (1 - b**self.t)
        X = X / (np.linalg.norm(X) + self.eps)
        for _ in range(5):
            S = X @ X.T
            X = 3.4445 * X + (-4.7750 * S + 2.0315 * S @ S) @ X
        self.m = self.b1 * self.m + (1 - self.b1) * a
        self.v = self.b2 * self.v + (1 - self.b2) * a**2
        m, v = self.m / (1 - self.b1**self.t), self.v / (1 - self.b2**self.t)
        return np.concatenate([0.2 * 8**0.5 * X.ravel(), m / (np.sqrt(v) + self.eps)])


def reference(
    w,
    gradients,
    values,
    *,
    direction="adam",
    total_steps=None,
    growth=None,
    gamma=8.0,
    **arguments,
):
    """Prodigy with Nesterov momentum and a cap, or Muon at Prodigy's distance.

    The average of the iterates changes no step; see `test_iterate_average.py`.
    """
    del gamma
    if growth is None:
        growth = 1.05 if total_steps is None else np.exp(40 / total_steps)
    if direction == "adam":
        return prodigy_reference(
            w, gradients, values, growth=growth, nesterov=True, **arguments
        )
    return muon_at_distance(w, gradients, growth=growth, **arguments)


def muon_at_distance(
    w, gradients, *, learning_rate, growth, b1, b2, eps, d0, d_coef, weight_decay
):
    start, r, s, d, b3 = w, 0.0, np.zeros_like(w), d0, np.sqrt(b2)
    inner = Muon(b1, b2, eps * d0)
    alphas = np.broadcast_to(learning_rate, len(gradients))
    for g, alpha in zip(gradients, alphas, strict=True):
        r = b3 * r + d / d0 * alpha * d * np.sum(g * (start - w))
        s = b3 * s + d / d0 * alpha * d * g
        w = w - alpha * d * (inner.step(d * g) + weight_decay * w)
        yield w, alpha * d
        d = max(d, min(d_coef * r / np.sum(np.abs(s)), growth * d))


CONTRACT = Contract(
    reference,
    by_leaf="direction",
    goals={"quadratic": Goal(300, 2e-2)},
)

RANDOM = np.random.default_rng(6)
START = {
    "matrix": jnp.asarray(RANDOM.normal(size=(4, 3)), jnp.float32),
    "bias": jnp.asarray(RANDOM.normal(size=3), jnp.float32),
}
SHARED = {"d0": 1e-3}


def around(inner, growth=1.05):
    """Put Prodigy's distance and an average around an optimizer."""
    return adaptax.iterate_average(
        adaptax.prodigy_distance(inner, b3=0.95**0.5, growth=growth, **SHARED)
    )


PARTS = {
    "adam": (
        lambda: adaptax.self_tuning(total_steps=400),
        lambda: adaptax.iterate_average(
            adaptax.prodigy(
                b2=0.95,
                weight_decay=0.02,
                growth=np.exp(40 / 400),
                nesterov=True,
                **SHARED,
            )
        ),
    ),
    "muon": (
        lambda: adaptax.self_tuning(direction="muon"),
        lambda: around(
            adaptax.muon(1.0, b2=0.95, eps=1e-11, weight_decay=0.02, consistent_rms=0.2)
        ),
    ),
    "a direction": (
        lambda: adaptax.self_tuning(direction=adaptax.scale_by_lion(), growth=1.5),
        lambda: around(adaptax.lion(1.0, weight_decay=0.02), growth=1.5),
    ),
}


def run(optimizer, steps=12):
    """Train on ½‖w‖², and return the parameters, what is evaluated, and the rate."""

    def step(carry, _):
        w, state = carry
        updates, state = optimizer.update(w, state, w)
        return (optax.apply_updates(w, updates), state), None

    (w, state), _ = jax.lax.scan(step, (START, optimizer.init(START)), length=steps)
    return w, adaptax.eval_params(state, w), adaptax.learning_rate(state), state


@pytest.mark.parametrize("direction", PARTS)
def test_it_is_made_of_public_parts(direction):
    ours, parts = (run(make()) for make in PARTS[direction])
    for one, other in zip(
        jax.tree.leaves(ours[:3]), jax.tree.leaves(parts[:3]), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    assert ours[2] > 1.2e-4  # d has left its first value


@pytest.mark.parametrize("direction", ["adam", "muon"])
def test_telemetry_shows_what_it_inferred(direction):
    *_, rate, state = run(adaptax.self_tuning(direction=direction))
    shown = adaptax.telemetry(state)
    (distance,) = (shown[name] for name in shown if name.endswith("/distance"))
    assert 1.2e-4 < distance < 1e-2
    assert shown["iterate_average/step"] == 12
    assert rate > 0


def test_a_direction_that_is_none_is_refused():
    with pytest.raises(TypeError, match=r"got 3\."):
        adaptax.self_tuning(direction=3)
    with pytest.raises(ValueError, match="got a whole optimizer"):
        adaptax.self_tuning(direction=adaptax.lion(1.0))
    with pytest.raises(ValueError, match="total_steps must be a whole number"):
        adaptax.self_tuning(total_steps=0)
    with pytest.raises(ValueError, match="growth must be >= 1"):
        adaptax.self_tuning(growth=0.9)


@pytest.mark.parametrize("direction", ["adam", "muon"])
def test_missing_parameters_are_asked_for_in_its_own_name(direction):
    optimizer = adaptax.self_tuning(direction=direction)
    gradient = jnp.ones((2, 2))
    with pytest.raises(ValueError, match="self_tuning needs the parameters"):
        optimizer.update(gradient, optimizer.init(gradient))
