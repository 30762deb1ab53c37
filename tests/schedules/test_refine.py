"""Refinement turns gradient norms into a schedule."""

import statistics

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conformance.contracts import Contract, Goal

from adaptax.schedules import linear, refine


def reference(
    step,
    *,
    grad_norms,
    peak=1.0,
    total_steps=None,
    norm="l2",
    padding="reflect",
):
    """Algorithm 1 of Defazio et al. (2023), one sum after the other."""
    n, half = len(grad_norms), len(grad_norms) // 20

    def at(i):
        if padding == "nearest":
            return grad_norms[min(max(i, 0), n - 1)]
        return grad_norms[-1 - i if i < 0 else 2 * n - 1 - i if i >= n else i]

    smooth = [
        statistics.median(at(j) for j in range(i - half, i + half + 1))
        for i in range(n)
    ]
    weights = [1 / (g**2 if norm == "l2" else g) for g in smooth]
    rates = [weights[i] * sum(weights[i + 1 :]) for i in range(n)]
    rates = [peak * rate / max(rates) for rate in rates] + [0.0]
    place = min(step * n / (total_steps or n), n)
    i = min(int(place), n - 1)
    return rates[i] + (rates[i + 1] - rates[i]) * (place - i)


CONTRACT = Contract(
    reference,
    goals={"quadratic": Goal(200, 1e-2, {"total_steps": 200})},
)

NORMS = 1 + np.random.default_rng(0).exponential(size=67) * np.linspace(2, 0.2, 67)


def rates(schedule, count):
    return np.asarray(jax.jit(lambda steps: schedule(steps))(jnp.arange(count)))


@pytest.mark.parametrize(
    ("norm", "padding", "total_steps"),
    [("l2", "reflect", None), ("l1", "nearest", None), ("l2", "nearest", 200)],
)
def test_it_is_the_algorithm_of_the_paper(norm, padding, total_steps):
    arguments = {"norm": norm, "padding": padding, "total_steps": total_steps}
    expected = [
        reference(step, grad_norms=list(NORMS), **arguments) for step in range(220)
    ]
    ours = rates(refine(NORMS, **arguments), 220)
    np.testing.assert_allclose(ours, expected, 2e-5, 1e-6)


def test_constant_norms_give_a_linear_decay():
    ours, line = refine(np.full(51, 7.0)), linear(1.0, total_steps=50)
    np.testing.assert_allclose(rates(ours, 60), rates(line, 60), 1e-5, 1e-6)


def test_falling_norms_give_a_warm_up():
    ours = rates(refine(np.geomspace(10, 1, 100)), 100)
    top = ours.argmax()
    assert 50 < top < 99
    assert np.all(np.diff(ours[5:top]) > 0)


def test_norms_can_be_traced():
    ours = jax.jit(lambda norms: refine(norms)(jnp.arange(70)))(
        jnp.asarray(NORMS, "f4")
    )
    np.testing.assert_allclose(ours, rates(refine(NORMS), 70), 2e-5, 1e-6)


@pytest.mark.parametrize(
    "norms", [[0.0, 0.0, 0.0], [1.0, 0.0, 1.0], [1e30, 1e-30, 1.0]]
)
def test_norms_of_zero_or_of_any_size_give_finite_rates(norms):
    ours = rates(refine(norms), 5)
    assert np.all(np.isfinite(ours))
    assert np.all(ours >= 0)
    assert ours.max() == 1
    assert np.all(ours[2:] == 0)
