"""A thousand boundaries cost what one does."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from conformance.contracts import Contract, Goal

from adaptax.schedules import piecewise


def reference(step, *, initial, boundaries, factors):
    """η₀, multiplied by each factor whose boundary has been reached."""
    for boundary, factor in zip(boundaries, factors, strict=True):
        if step >= boundary:
            initial *= factor
    return initial


CONTRACT = Contract(
    reference,
    optax_forms=("optax.piecewise_constant_schedule",),
    optax_twin=lambda: optax.piecewise_constant_schedule(0.8, {10: 0.5, 30: 0.4}),
    goals={"quadratic": Goal(200, 1e-2)},
)


def test_the_size_of_the_program_does_not_depend_on_the_number_of_boundaries():
    def lines(count):
        schedule = piecewise(0.1, np.arange(1, count + 1), np.full(count, 0.999))
        return len(jax.jit(lambda step: schedule(step)).lower(0).as_text().splitlines())

    assert lines(1000) == lines(2) < 200


def test_a_thousand_factors_are_multiplied_without_losing_digits():
    random = np.random.default_rng(0)
    boundaries = np.cumsum(random.integers(1, 9, 1000))
    factors = random.uniform(0.9, 1.1, 1000)
    steps = np.arange(boundaries[-1] + 5)
    table = 0.1 * np.concatenate([[1], np.cumprod(factors)])
    expected = table[np.searchsorted(boundaries, steps, side="right")]
    ours = jax.jit(lambda: piecewise(0.1, boundaries, factors)(steps))()
    np.testing.assert_allclose(ours, expected, 1e-6)


def test_the_new_rate_holds_at_the_boundary_itself_as_in_optax():
    twin = optax.piecewise_constant_schedule(1.0, {3: 0.5})
    for step, rate in ((2, 1.0), (3, 0.5), (4, 0.5)):
        assert float(piecewise(1.0, [3], [0.5])(step)) == rate == float(twin(step))


def test_boundaries_are_met_exactly_by_whole_steps_beyond_float32():
    boundary = 2**24 + 1
    schedule = piecewise(1.0, [boundary], [0.5])
    steps = np.asarray([boundary - 1, boundary], np.int32)
    np.testing.assert_array_equal(schedule(steps), np.float32([1.0, 0.5]))


def test_no_boundaries_are_a_constant_rate():
    np.testing.assert_array_equal(piecewise(0.5, [], [])(np.arange(3)), np.float32(0.5))


def test_boundaries_and_factors_can_be_mapped_over():
    boundaries = jnp.asarray([[2, 4], [3, 9]])
    factors = jnp.asarray([[0.5, 0.5], [0.1, 2.0]], jnp.float32)
    steps = jnp.arange(12)
    together = jax.jit(jax.vmap(lambda at, by: piecewise(1.0, at, by)(steps)))(
        boundaries, factors
    )
    expected = [[1, 1, 0.5, 0.5] + [0.25] * 8, [1] * 3 + [0.1] * 6 + [0.2] * 3]
    np.testing.assert_allclose(together, expected, 1e-6)
