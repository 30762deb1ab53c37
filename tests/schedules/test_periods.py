"""Whole periods are counted exactly, whatever the compiler makes of a division."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adaptax.schedules.periods import elapsed, since, whole

PERIODS = np.arange(1, 2001)
MULTIPLES = np.array([1, 2, 3, 7, 41, 1000, 8000])


def steps_around(periods, multiples):
    around = periods[:, None, None] * multiples[None, :, None] + np.array([-1, 0, 1])
    return around.reshape(len(periods), -1)


@pytest.mark.parametrize("kind", [np.int32, np.float32])
@pytest.mark.parametrize("compiled", [False, True])
def test_every_period_up_to_2000_is_counted_exactly(kind, compiled):
    steps = steps_around(PERIODS, MULTIPLES)
    count = jax.vmap(whole)
    count = jax.jit(count) if compiled else count
    counts, rests = count(jnp.asarray(steps, kind), jnp.asarray(PERIODS, kind))
    expected = np.divmod(steps, PERIODS[:, None])
    np.testing.assert_array_equal(counts, expected[0])
    np.testing.assert_array_equal(rests, expected[1])


def test_a_period_that_is_a_constant_of_the_program_is_counted_exactly():
    """Only then does the compiler multiply by its reciprocal."""
    periods = [3, 7, 41, 47, 55, 61, 82, 83, 94, 97, 107, 110, 115, 119, 121, 122, 123]
    steps = steps_around(np.asarray(periods), np.arange(1, 400))

    @jax.jit
    def count(steps):
        rows = zip(steps, periods, strict=True)
        return jnp.stack([whole(row, float(period))[0] for row, period in rows])

    expected = steps // np.asarray(periods)[:, None]
    np.testing.assert_array_equal(count(jnp.asarray(steps, jnp.float32)), expected)


def test_integers_are_counted_exactly_at_any_step():
    steps = np.array([2**24 + 1, 2**30 + 7, 2**31 - 2])
    for period in (3, 41, 1000, 2**25 + 3, 2**40):
        counts, rests = jax.jit(lambda steps, period=period: whole(steps, period))(
            steps.astype(np.int32)
        )
        np.testing.assert_array_equal(counts, np.float32(steps // period))
        np.testing.assert_array_equal(rests, np.float32(steps % period))


def test_a_span_has_passed_exactly_at_its_end():
    lengths = np.arange(1, 2001)
    for offset, expected in ((0, 1.0), (5, 1.0)):
        parts = jax.jit(elapsed)(jnp.asarray(lengths + offset), 0, jnp.asarray(lengths))
        np.testing.assert_array_equal(parts, expected)
    before = jax.jit(elapsed)(jnp.asarray(lengths - 1), 0, jnp.asarray(lengths))
    assert np.all(before < 1)


def test_a_span_without_length_passes_at_its_step():
    parts = elapsed(jnp.arange(5), 3, 3)
    np.testing.assert_array_equal(parts, [0, 0, 0, 1, 1])


def test_steps_since_another_do_not_wrap_around():
    largest = 2**31 - 1
    steps = jnp.asarray([0, 5, largest], jnp.int32)
    np.testing.assert_array_equal(since(steps, 5), [0, 0, largest - 5])
    np.testing.assert_array_equal(since(steps, -5), [5, 10, largest])
    np.testing.assert_array_equal(since(steps, 2**40), [0, 0, 0])
    np.testing.assert_array_equal(since(steps, 4.5), np.float32([0, 0.5, largest]))
