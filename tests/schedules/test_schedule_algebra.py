"""Schedules made of others: joined, multiplied, stretched, moved, clamped."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adaptax import schedules
from adaptax.schedules import clamp, join, multiply, offset, stretch

STEPS = np.arange(60)
WAVE = schedules.cosine_restarts(0.8, 7, 1.5, peak_decay=0.9, end=0.1)
DROPS = schedules.step_decay(0.8, factor=0.5, every=5)


def rates(schedule, steps=STEPS):
    return np.asarray(jax.jit(lambda steps: schedule(steps))(jnp.asarray(steps)))


def traced(factory, *numbers):
    """Evaluate with every number traced."""
    return np.asarray(jax.jit(lambda *numbers: factory(*numbers)(STEPS))(*numbers))


NEUTRAL = {
    "join": lambda schedule: join([schedule], []),
    "multiply": lambda schedule: multiply(schedule, schedules.constant(1.0)),
    "stretch": lambda schedule: stretch(schedule, 1),
    "offset": lambda schedule: offset(schedule, 0),
    "clamp": lambda schedule: clamp(schedule, 0, 1e9),
    "warmup": lambda schedule: schedules.warmup(schedule, 0),
    "there and back": lambda schedule: stretch(stretch(schedule, 4), 0.25),
    "later and earlier": lambda schedule: offset(offset(schedule, 9), -9),
}


def test_the_neutral_elements_change_nothing():
    for schedule in (WAVE, DROPS):
        made = {name: NEUTRAL[name](schedule) for name in NEUTRAL}
        together = jax.jit(lambda steps, made=made: {k: made[k](steps) for k in made})
        for name, ours in together(jnp.asarray(STEPS)).items():
            np.testing.assert_allclose(ours, rates(schedule), 1e-6, err_msg=name)


def test_join_runs_each_schedule_from_its_own_start():
    parts = [
        schedules.linear(0.1, total_steps=8, end=0.8),
        schedules.constant(0.8),
        DROPS,
    ]
    drops = rates(DROPS)
    expected = np.where(STEPS < 8, 0.1 + 0.7 * STEPS / 8, 0.8)
    expected[30:] = drops[:30]
    np.testing.assert_allclose(rates(join(parts, [8, 30])), expected, 1e-6)
    boundaries = jnp.asarray([8, 30])
    by_array = traced(lambda boundaries: join(parts, boundaries), boundaries)
    np.testing.assert_allclose(by_array, expected, 1e-6)
    one_by_one = traced(lambda *boundaries: join(parts, boundaries), 8.0, 30.0)
    np.testing.assert_allclose(one_by_one, expected, 1e-6)


def test_a_joined_schedule_that_is_not_yet_running_cannot_spoil_the_rate():
    early = join([DROPS, lambda step: 1 / (step.astype(jnp.float32) - 1)], [50])
    assert np.all(np.isfinite(rates(early, np.arange(50))))


def test_multiply_takes_products():
    expected = rates(WAVE) * rates(DROPS)
    np.testing.assert_allclose(rates(multiply(WAVE, DROPS)), expected, 1e-6)


@pytest.mark.parametrize("ratio", [2, 3, 7, 41])
def test_stretching_meets_every_step_of_the_schedule(ratio):
    steps = ratio * np.arange(300)
    fine = schedules.step_decay(0.8, factor=0.99, every=1)
    np.testing.assert_array_equal(
        rates(stretch(fine, ratio), steps), rates(fine, np.float32(np.arange(300)))
    )
    held = rates(stretch(fine, ratio), steps + ratio - 1)
    np.testing.assert_allclose(held, rates(fine, np.arange(300)), 1e-6)


def test_a_stretched_line_is_a_longer_line():
    for ratio in (0.5, 2.5):
        ours = traced(
            lambda ratio: stretch(schedules.linear(0.8, total_steps=20), ratio), ratio
        )
        expected = rates(schedules.linear(0.8, total_steps=20 * ratio))
        np.testing.assert_allclose(ours, expected, 1e-5, 1e-7)


def test_an_offset_starts_later_or_in_the_middle():
    line = schedules.linear(0.8, total_steps=20)
    later, earlier = rates(offset(line, 10)), rates(offset(line, -10))
    np.testing.assert_array_equal(later[:10], np.float32(0.8))
    np.testing.assert_array_equal(later[10:], rates(line)[:-10])
    np.testing.assert_array_equal(earlier[:-10], rates(line)[10:])
    np.testing.assert_array_equal(traced(lambda s: offset(line, s), -10), earlier)


def test_an_offset_does_not_wrap_around_at_the_last_step():
    last = np.asarray([2**31 - 2], np.int32)
    assert rates(
        offset(schedules.linear(0.8, total_steps=20, end=0.1), -100), last
    ) == np.float32(0.1)


def test_clamp_keeps_rates_between_its_bounds():
    ours = rates(clamp(WAVE, 0.2, 0.5))
    np.testing.assert_allclose(ours, np.clip(rates(WAVE), 0.2, 0.5), 1e-6)
    assert ours.min() == np.float32(0.2)
    assert ours.max() == np.float32(0.5)


def test_functions_of_the_step_and_optax_schedules_are_taken():
    halving = optax.exponential_decay(0.8, 5, 0.5, staircase=True)
    with jax.numpy_dtype_promotion("standard"):
        np.testing.assert_allclose(rates(offset(halving, 0)), rates(DROPS), 1e-6)
        both = multiply(lambda step: 0.5, halving)
        np.testing.assert_allclose(rates(both), rates(DROPS) / 2, 1e-6)


def test_compositions_of_compositions_are_schedules():
    built = clamp(join([stretch(DROPS, 2), offset(WAVE, -3)], [20]), 0.05, 0.7)
    update = jax.jit(lambda state: built.update(1.0, state))
    state, expected = built.init(None), rates(built, np.arange(25))
    for step in range(25):
        updates, state = update(state)
        np.testing.assert_allclose(updates, expected[step], 1e-6)
    assert state.invalid == 0
