"""What holds for every value of the arguments."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptax import schedules

STEPS = jnp.arange(0, 2500, 3)
SHAPES = ("linear", "cosine", "mirror_cosine", "sqrt", "square", "exponential")

peaks = st.floats(2**-20, 100, width=32)
parts = st.integers(0, 1000).map(lambda n: n / 1000)
lengths = st.integers(1, 2000)
quick = settings(max_examples=25, deadline=None, derandomize=True)


@functools.cache
def program(name, structure=()):
    """Compile a schedule once, for all arguments, as its signature lists them."""
    factory = getattr(schedules, name)
    takes = tuple(inspect.signature(factory).parameters)

    def rates(arguments, steps):
        named = dict(zip(takes, arguments, strict=False))
        return factory(**named, **dict(structure))(steps)

    return jax.jit(rates)


def rates_of(name, *arguments, steps=STEPS, **structure):
    arguments = [np.float32(argument) for argument in arguments]
    return np.asarray(program(name, tuple(structure.items()))(arguments, steps))


def assert_falls(rates, low, high):
    slack = 1e-6 * high
    assert np.all(np.diff(rates) <= slack)
    assert np.all(rates >= low - slack)
    assert np.all(rates <= high + slack)
    assert np.all(rates >= 0)


@quick
@given(peak=peaks, total=lengths, low=parts, power=st.floats(0.25, 4, width=32))
def test_decays_to_an_end_fall_from_the_first_rate_to_the_last(peak, total, low, power):
    end = peak * low
    for rates in (
        rates_of("linear", peak, total, end),
        rates_of("rex", peak, total, end),
        rates_of("polynomial", peak, total, power, end),
        rates_of("cosine", peak, total, 0, end),
    ):
        assert_falls(rates, end, peak)
        assert rates[0] == np.float32(peak)
        assert rates[-1] == np.float32(end)


@quick
@given(peak=peaks, rate=st.floats(0, 10, width=32), every=lengths)
def test_endless_decays_fall_towards_zero(peak, rate, every):
    for rates in (
        rates_of("inverse_sqrt", peak, rate),
        rates_of("inverse_time", peak, rate, every),
        rates_of("power_decay", peak, 0.7, rate),
        rates_of("compound_decay", peak, rate, every),
        rates_of("step_decay", peak, 0.5, every),
        rates_of("exponential_decay", peak, 0.9, every),
    ):
        assert_falls(rates, 0, peak)
        assert rates[0] == np.float32(peak)


@pytest.mark.parametrize("shape", SHAPES)
@quick
@given(peak=peaks, total=lengths, rise=parts, fall=parts)
def test_a_trapezoid_rises_stays_and_falls_to_its_end(shape, peak, total, rise, fall):
    warmup = np.float32(rise * total)
    decay = np.float32(fall * (total - warmup))
    rates = rates_of("warmup_stable_decay", peak, total, warmup, decay, shape=shape)
    steps = np.asarray(STEPS)
    stable = (steps >= warmup) & (steps < np.float32(total) - decay)
    assert np.all(np.diff(rates[steps < warmup]) >= 0)
    assert np.all(rates[stable] == np.float32(peak))
    assert np.all(rates[steps >= total] == 0)
    assert_falls(rates[steps >= warmup], 0, peak)


@quick
@given(
    low=parts,
    high=peaks,
    half=lengths,
    mode=st.sampled_from(["triangular", "triangular2"]),
)
def test_cycles_stay_between_their_bounds_and_touch_them(low, high, half, mode):
    low = low * high
    steps = jnp.asarray([0, half, 2 * half, 3 * half, 4 * half])
    rates = rates_of("cyclic", low, high, half, mode=mode)
    assert np.all(rates >= np.float32(low) * (1 - 1e-6))
    assert np.all(rates <= np.float32(high) * (1 + 1e-6))
    corners = rates_of("cyclic", low, high, half, mode=mode, steps=steps)
    top = high if mode == "triangular" else low + (high - low) / 2
    expected = np.array([low, high, low, top, low])
    np.testing.assert_allclose(corners, expected, 1e-5, 1e-6 * high)


@quick
@given(
    peak=peaks,
    first=st.integers(1, 500),
    mult=st.sampled_from([1.0, 1.25, 1.5, 2.0, 3.0]),
    decay=st.floats(0.25, 1, width=32),
    low=parts,
)
def test_restarts_reach_each_peak_at_the_first_step_of_a_cycle(
    peak, first, mult, decay, low
):
    end = peak * low
    arguments = (peak, first, mult, decay, end)
    rates = rates_of("cosine_restarts", *arguments)
    assert np.all(rates >= np.float32(end) * (1 - 1e-5))
    assert np.all(rates <= np.float32(peak) * (1 + 1e-5))
    starts = first * np.cumsum([0.0, *mult ** np.arange(4.0)])
    tops = np.maximum(peak * np.float64(decay) ** np.arange(5), end)
    at_starts = rates_of("cosine_restarts", *arguments, steps=jnp.asarray(starts, "f4"))
    np.testing.assert_allclose(at_starts, tops, 2e-5)


@quick
@given(peak=peaks, total=lengths, part=st.floats(0.125, 0.875, width=32))
def test_rates_do_not_jump_where_two_pieces_meet(peak, total, part):
    turn = np.float32(part) * np.float32(total)
    gap = np.float32(1e-3) * total
    steps = jnp.asarray([turn - gap, turn, turn + gap], jnp.float32)
    for rates in (
        rates_of("cosine", peak, total, turn, steps=steps),
        rates_of("one_cycle", peak, total, part, steps=steps),
        rates_of("one_cycle", peak, total, part, anneal="linear", steps=steps),
        rates_of("warmup_stable_decay", peak, total, turn, total - turn, steps=steps),
        rates_of("inverse_sqrt", peak, 1 / total, turn, steps=steps),
    ):
        assert abs(rates[1] - peak) <= 1e-5 * peak
        assert np.all(np.abs(np.diff(rates)) <= 0.02 * peak)


@quick
@given(
    initial=peaks,
    drops=st.dictionaries(
        st.integers(0, 2500), st.integers(0, 40).map(lambda n: n / 20), max_size=12
    ),
)
def test_piecewise_multiplies_at_every_boundary(initial, drops):
    boundaries, factors = sorted(drops), [drops[step] for step in sorted(drops)]
    boundaries += range(10_000, 10_012 - len(boundaries))
    factors += [1.0] * (12 - len(factors))
    expected = np.full(STEPS.shape, initial)
    for step, factor in zip(boundaries, factors, strict=True):
        expected[np.asarray(STEPS) >= step] *= factor
    arrays = (np.asarray(boundaries, np.int32), np.asarray(factors, np.float32))
    rates = program("piecewise")([np.float32(initial), *arrays], STEPS)
    np.testing.assert_allclose(rates, expected, 1e-5)
