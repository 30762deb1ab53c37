"""Schedules, and the one seat where a rate enters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptax
from adaptax._core import rates, scaling


def _real(step):
    return step.astype(jnp.float32)


HALVING = adaptax.as_schedule(lambda step: 0.5 ** _real(step))


def applied(rate, steps=4, **extra_args):
    """Return the factor by which a rate multiplies, step by step."""
    rate, factors = optax.with_extra_args_support(rate), []
    state = rate.init(jnp.ones(()))
    for _ in range(steps):
        update, state = rate.update(jnp.ones(()), state, **extra_args)
        factors.append(float(update))
    return factors


def test_a_schedule_multiplies_by_the_rate_of_each_step():
    assert applied(HALVING) == [1.0, 0.5, 0.25, 0.125]


def test_a_schedule_can_be_called_with_a_step_or_an_array_of_steps():
    assert HALVING(3) == 0.125
    np.testing.assert_array_equal(HALVING(np.arange(4)), applied(HALVING))
    np.testing.assert_array_equal(jax.vmap(HALVING)(jnp.arange(4)), applied(HALVING))
    np.testing.assert_array_equal(jax.jit(lambda step: HALVING(step))(2), 0.25)
    assert adaptax.constant(0.5)(np.zeros((2, 3), int)).shape == (2, 3)


@pytest.mark.parametrize("schedule", [HALVING, adaptax.constant(0.5)])
def test_the_state_before_the_first_step_shows_the_rate_to_come(schedule):
    state = schedule.init()
    assert state.learning_rate == schedule(0) == schedule(state)
    for step in range(3):
        state = schedule.update(state)
        assert state.learning_rate == schedule(step)
        assert schedule(state) == schedule(step + 1)


def test_optax_takes_it_wherever_it_takes_a_schedule():
    joined = optax.join_schedules([HALVING, optax.constant_schedule(2.0)], [2])
    np.testing.assert_array_equal([joined(step) for step in range(4)], [1, 0.5, 2, 2])
    with jax.numpy_dtype_promotion("standard"):
        optimizer = optax.sgd(HALVING)
        assert applied(optimizer) == [-1.0, -0.5, -0.25, -0.125]
        assert applied(optax.adam(HALVING))[0] == pytest.approx(-1.0, rel=1e-4)


def test_inject_hyperparams_of_optax_keeps_its_state():
    optimizer = optax.inject_hyperparams(optax.sgd)(learning_rate=HALVING)
    state = optimizer.init(jnp.ones(()))
    for step in range(4):
        update, state = optimizer.update(jnp.ones(()), state, jnp.ones(()))
        assert update == -HALVING(step)
        assert state.hyperparams["learning_rate"] == HALVING(step)


@pytest.mark.parametrize(
    "function",
    [
        lambda step: 1,
        lambda step: jnp.ones((), jnp.int32),
        lambda step: np.float64(1),
        lambda step: jnp.ones((), jnp.bfloat16),
        lambda step: jnp.ones((), bool),
    ],
)
def test_rates_of_any_real_type_become_float32(function):
    schedule = adaptax.as_schedule(function)
    with jax.enable_x64(True):
        state = schedule.update(schedule.init())
    assert state.learning_rate.dtype == jnp.float32
    assert state.learning_rate == 1


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_a_rate_that_is_not_finite_keeps_the_one_before_and_is_counted(bad):
    schedule = adaptax.as_schedule(
        lambda step: jnp.where(step == 2, bad, 4.0 + _real(step))
    )
    assert applied(schedule) == [4, 5, 5, 7]
    state = schedule.init()
    for _ in range(4):
        state = schedule.update(state)
    assert int(state.invalid) == 1


def test_a_schedule_that_is_bad_from_the_start_takes_no_step():
    schedule = adaptax.as_schedule(lambda step: jnp.full(step.shape, jnp.nan))
    assert applied(schedule, 2) == [0, 0]


def test_a_negative_rate_counts_as_0():
    schedule = adaptax.as_schedule(lambda step: 1.0 - _real(step))
    assert applied(schedule) == [1, 0, 0, 0]
    state = schedule.init()
    for _ in range(4):
        state = schedule.update(state)
    assert int(state.invalid) == 2


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 2)])
def test_a_rate_of_another_shape_is_an_error(shape):
    schedule = adaptax.as_schedule(lambda step: jnp.ones(shape))
    with pytest.raises(ValueError, match=r"the step's shape \(\), got"):
        schedule.init()


def test_a_complex_rate_is_an_error():
    with pytest.raises(TypeError, match="real rate, got dtype complex64"):
        adaptax.as_schedule(lambda step: jnp.ones((), jnp.complex64)).init()


def test_at_the_last_step_that_can_be_counted_a_schedule_stays():
    last = np.iinfo(np.int32).max
    schedule = adaptax.linear(1.0, total_steps=10, end=0.25)
    state = schedule.init()._replace(step=jnp.asarray(last, jnp.int32))
    for _ in range(2):
        state = schedule.update(state)
        assert int(state.step) == last
        assert state.learning_rate == 0.25


def test_a_negative_step_counts_as_0():
    assert HALVING(-3) == 1
    np.testing.assert_array_equal(HALVING(np.array([-1, 0, 1])), [1, 1, 0.5])
    assert jax.jit(lambda step: HALVING(step))(-7) == 1


@pytest.mark.parametrize("step", [10**12, 2**31, np.int64(2**40), np.array([0, 2**33])])
def test_a_step_too_large_for_the_integers_in_use_is_an_error(step):
    with pytest.raises(ValueError, match="step must be <= 2147483647"):
        HALVING(step)


def test_a_huge_step_may_be_a_float_or_use_x64():
    assert HALVING(1e12) == 0
    with jax.enable_x64(True):
        assert HALVING(10**12) == 0


def test_a_constant_in_the_state_wins_over_the_one_that_made_it():
    schedule = adaptax.constant(0.5)
    state = schedule.init()._replace(learning_rate=jnp.float32(0.25))
    for _ in range(3):
        state = schedule.update(state)
        assert state.learning_rate == 0.25


def test_a_constant_that_was_changed_in_the_code_wins_over_the_state():
    state = adaptax.constant(0.5).init()._replace(learning_rate=jnp.float32(0.25))
    changed = adaptax.constant(0.125)
    for _ in range(3):
        state = changed.update(state)
        assert state.learning_rate == 0.125
    set_later = state._replace(learning_rate=jnp.float32(0.0625))
    assert changed.update(set_later).learning_rate == 0.0625


def test_a_traced_constant_is_followed_from_call_to_call():
    traces = []

    @jax.jit
    def step(value, state):
        traces.append("traced")
        return adaptax.constant(value).update(state)

    state = adaptax.constant(0.5).init()
    for value in (0.5, 0.25, 0.75, 0.75):
        state = step(value, state)
        assert state.learning_rate == value
    assert len(traces) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_traced_constant_that_is_not_finite_changes_nothing_but_a_counter(bad):
    step = jax.jit(lambda value, state: adaptax.constant(value).update(state))
    state = step(bad, adaptax.constant(0.5).init())
    assert state.learning_rate == 0.5
    assert int(state.invalid) == 1
    assert step(0.5, state).learning_rate == 0.5


SEATS = {
    "a number": 0.5,
    "a whole number": 2,
    "a NumPy number": np.float64(0.5),
    "a bfloat16 number": jnp.bfloat16(0.5),
    "an array": jnp.asarray(0.5),
    "a function": lambda step: jnp.full(step.shape, 0.5),
    "a schedule of Optax": optax.constant_schedule(0.5),
    "a schedule": adaptax.constant(0.5),
    "a transformation": optax.scale(0.5),
    "a chain": optax.chain(adaptax.constant(0.25), adaptax.constant(2.0)),
}


@pytest.mark.parametrize("seated", SEATS.values(), ids=SEATS)
def test_a_seat_takes(seated):
    rate = 2 if seated is SEATS["a whole number"] else 0.5
    assert applied(adaptax.descend(seated)) == [-rate] * 4
    assert applied(adaptax.descend(seated, 4.0)) == [-4 * rate] * 4


@pytest.mark.parametrize(
    "wrong", [None, True, "0.1", [0.1], 1j, {}, optax.EmptyState()], ids=repr
)
def test_what_fits_into_no_seat_is_a_type_error(wrong):
    with pytest.raises(TypeError, match="learning_rate must be a number, a traced"):
        adaptax.descend(wrong)


def test_a_seat_left_empty_is_a_type_error():
    with pytest.raises(TypeError, match="at least one learning rate"):
        adaptax.descend()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_a_rate_multiplies_in_float32_and_keeps_the_dtype(dtype):
    updates = jnp.asarray([1.0, 3.0, -7.0], dtype)
    scaled = scaling.scale_updates(updates, jnp.float32(0.3))
    assert scaled.dtype == dtype
    expected = (updates.astype(jnp.float32) * jnp.float32(0.3)).astype(dtype)
    np.testing.assert_array_equal(scaled, expected)


def test_a_seat_is_read_apart_from_the_updates():
    seat = rates.seat(optax.chain(HALVING, adaptax.reduce_on_plateau(0.1, patience=0)))
    state, scales = seat.init(), []
    for value in (1.0, 2.0, 0.5):
        scale, state = seat.read(state, value=value)
        scales.append(float(scale))
        assert adaptax.learning_rate(state) == scale
    np.testing.assert_allclose(scales, [1.0, 0.05, 0.025], rtol=1e-6)
