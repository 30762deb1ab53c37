"""Every schedule has the rates of its equation, and of the libraries that share it."""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.contracts import contract_of, reference_of

from adaptax import catalog, schedules

TRACES = Path(__file__).parents[1] / "reference"
STEPS = np.concatenate([np.arange(150), np.arange(150, 3000, 41)])
ENTRIES = {e.name: e for e in catalog.ENTRIES if e.family == "schedule"}
CASES = {
    "-".join([name, *map(str, variant.values())]): (entry, variant)
    for name, entry in ENTRIES.items()
    for variant in ({}, *entry.variants)
}
every_case = pytest.mark.parametrize("name", CASES)


def rates(schedule, steps=STEPS):
    return np.asarray(jax.jit(lambda steps: schedule(steps))(jnp.asarray(steps)))


def rates_of_all(made, steps):
    """Compile many schedules as one program, which is quicker."""
    together = jax.jit(lambda steps: {name: made[name](steps) for name in made})
    return jax.tree.map(np.asarray, together(jnp.asarray(steps)))


@functools.cache
def rates_of_cases(x64=False):
    with jax.enable_x64(x64):
        made = {name: entry.make(**variant) for name, (entry, variant) in CASES.items()}
        return rates_of_all(made, STEPS)


@functools.cache
def traced_rates_of_cases():
    """Every number is an argument of the program."""
    numbers = {
        name: {k: v for k, v in entry.hyperparameters.items() if not callable(v)}
        for name, (entry, _) in CASES.items()
    }

    @jax.jit
    def program(numbers, steps):
        return {
            name: entry.make(**{**numbers[name], **variant})(steps)
            for name, (entry, variant) in CASES.items()
        }

    return program(numbers, jnp.asarray(STEPS))


def assert_close(ours, theirs, rtol=1e-5):
    np.testing.assert_allclose(ours, theirs, rtol, atol=2e-7)


@every_case
def test_rates_are_those_of_the_equation(name):
    entry, variant = CASES[name]
    arguments = {**entry.hyperparameters, **variant}
    expected = [contract_of(entry).reference(int(step), **arguments) for step in STEPS]
    assert_close(rates_of_cases()[name], expected)


@every_case
def test_traced_arguments_give_the_same_rates(name):
    early = slice(0, 150)  # later, powers of a rounded number differ
    assert_close(
        traced_rates_of_cases()[name][early], rates_of_cases()[name][early], 3e-5
    )


@every_case
def test_without_jit_the_rates_are_the_same_and_nothing_is_nan(name):
    entry, variant = CASES[name]
    with jax.debug_nans(True):
        eager = np.asarray(entry.make(**variant)(jnp.asarray(STEPS)))
    assert_close(eager, rates_of_cases()[name])


@every_case
def test_rates_are_float32_under_x64_too(name):
    ours = rates_of_cases(x64=True)[name]
    assert ours.dtype == np.float32
    assert_close(ours, rates_of_cases()[name], 2e-6)


@functools.cache
def late_rates_of_cases():
    made = {name: entry.make(**variant) for name, (entry, variant) in CASES.items()}
    whole = [2**24 - 1, 2**24 + 1, 2**30 + 1, 2**31 - 2]
    large = [*map(float, whole), 1e10, 1e12, 1e30]
    return (
        rates_of_all(made, np.asarray(whole, np.int32)),
        rates_of_all(made, np.asarray(large, np.float32)),
    )


@every_case
def test_rates_stay_finite_and_settle_after_any_number_of_steps(name):
    entry, _ = CASES[name]
    for late in late_rates_of_cases():
        assert np.all(np.isfinite(late[name]))
        assert np.all(late[name] >= 0)
        if "total_steps" in entry.hyperparameters:
            last = rates_of_cases()[name][-1]
            np.testing.assert_array_equal(late[name], last)


@pytest.mark.parametrize(
    "name", [n for n, entry in ENTRIES.items() if contract_of(entry).optax_twin]
)
def test_rates_are_those_of_optax(name):
    twin = contract_of(ENTRIES[name]).optax_twin()
    steps = np.arange(70)
    with jax.numpy_dtype_promotion("standard"):
        theirs = jax.jit(jax.vmap(lambda step: jnp.asarray(twin(step), jnp.float32)))(
            jnp.asarray(steps)
        )
    ours, theirs = rates_of_cases()[name][:70], np.asarray(theirs)
    sound = np.isfinite(theirs)  # at the end of a polynomial it raises −6e-8: NaN
    assert sound.sum() >= 40
    assert_close(ours[sound], theirs[sound])


def test_a_schedule_over_a_run_starts_from_or_rises_to_the_rate_given():
    @jax.jit
    def program(rate, steps):
        return {
            (name, total): entry.over(rate, total)(steps)
            for name, entry in ENTRIES.items()
            if entry.over
            for total in (1, 100)
        }

    for (name, total), ours in program(0.3, jnp.arange(100)).items():
        run = np.asarray(ours[:total])
        assert np.all(run >= 0), name
        assert run.max() <= np.float32(0.3) * (1 + 1e-6), name
        assert run.max() >= 0.29 or total == 1, name


def read_traces(library):
    record = json.loads((TRACES / f"{library}_schedules.json").read_text("utf-8"))
    return {name: trace["rates"] for name, trace in record["traces"].items()}


def one_cycle_of_torch(steps, pct_start, **arguments):
    """Map `OneCycleLR` as the documentation does."""
    fraction = (pct_start * steps - 1) / (steps - 1)
    return schedules.one_cycle(
        0.8, total_steps=steps - 1, start_fraction=fraction, **arguments
    )


def lower_restarts_of_keras(alpha):
    """Map `CosineDecayRestarts` with `m_mul` and `alpha` as the documentation does."""
    to_zero = schedules.cosine_restarts(0.8, 8, peak_decay=0.5)
    return schedules.as_schedule(lambda step: alpha * 0.8 + (1 - alpha) * to_zero(step))


IN_TORCH = {
    "LinearLR": schedules.linear(0.8, total_steps=40, end=0.08),
    "PolynomialLR": schedules.polynomial(0.8, total_steps=40, power=1.7),
    "StepLR": schedules.step_decay(0.8, factor=0.6, every=7),
    "MultiStepLR": schedules.piecewise(0.8, [5, 11, 30], [0.3] * 3),
    "ExponentialLR": schedules.exponential_decay(0.8, decay_rate=0.93),
    "CosineAnnealingLR": schedules.cosine(0.8, 59, end=0.05),
    "CosineAnnealingWarmRestarts": schedules.cosine_restarts(
        0.8, 6, cycle_mult=2, end=0.05
    ),
    "CyclicLR": schedules.cyclic(0.1, 0.8, 7),
    "CyclicLR triangular2": schedules.cyclic(0.1, 0.8, 7, mode="triangular2"),
    "CyclicLR exp_range": schedules.cyclic(0.1, 0.8, 7, mode="exp_range", gamma=0.97),
    "CyclicLR asymmetric": schedules.cyclic(0.1, 0.8, 3, 8),
    "CyclicLR asymmetric triangular2": schedules.cyclic(
        0.1, 0.8, 8, 3, mode="triangular2"
    ),
    "CyclicLR asymmetric exp_range": schedules.cyclic(
        0.1, 0.8, 1, 6, mode="exp_range", gamma=0.97
    ),
    "OneCycleLR": one_cycle_of_torch(60, 0.25),
    "OneCycleLR linear": one_cycle_of_torch(
        60, 0.3, div_factor=10.0, final_div_factor=100.0, anneal="linear"
    ),
    "OneCycleLR of 2": one_cycle_of_torch(2, 0.3),
    "OneCycleLR of 3": one_cycle_of_torch(3, 0.3),
    "OneCycleLR without a rise": one_cycle_of_torch(60, 0.0),
    "OneCycleLR of 2 without a rise": one_cycle_of_torch(2, 0.0),
    "OneCycleLR of 3 linear": one_cycle_of_torch(3, 0.3, anneal="linear"),
}
IN_KERAS = {
    "ExponentialDecay": schedules.exponential_decay(0.8, decay_rate=0.7, decay_steps=8),
    "ExponentialDecay staircase": schedules.exponential_decay(
        0.8, decay_rate=0.7, decay_steps=8, staircase=True
    ),
    "InverseTimeDecay": schedules.inverse_time(0.8, rate=0.7 / 8),
    "InverseTimeDecay staircase": schedules.inverse_time(0.8, rate=0.7 / 8, every=8),
    "PolynomialDecay": schedules.polynomial(0.8, total_steps=40, power=1.7, end=0.05),
    "CosineDecay": schedules.cosine(0.8, 40, end=0.08),
    "CosineDecay warm-up": schedules.cosine(0.8, 50, warmup_steps=10, end=0.08),
    "CosineDecayRestarts": schedules.cosine_restarts(0.8, 8, 2.0, peak_decay=0.5),
    "CosineDecayRestarts to alpha": schedules.cosine_restarts(
        0.8, 8, 2.0, end=0.1 * 0.8
    ),
    "CosineDecayRestarts lower, to alpha": lower_restarts_of_keras(0.1),
}


@pytest.mark.parametrize(
    ("library", "made"), [("torch", IN_TORCH), ("keras", IN_KERAS)]
)
def test_rates_are_those_of_other_libraries(library, made):
    theirs = read_traces(library)
    assert theirs.keys() == made.keys()
    ours = rates_of_all(made, np.arange(60))
    for name in theirs:
        run = ours[name][: len(theirs[name])]
        np.testing.assert_allclose(run, theirs[name], 2e-5, 2e-7, err_msg=name)


FIRST_AND_LAST = {
    "exponential_decay": (
        schedules.exponential_decay(0.4, decay_rate=0.5, decay_steps=2, end=0.1),
        0.4,
        0.1,
    ),
    "linear": (schedules.linear(0.4, total_steps=7, end=0.1), 0.4, 0.1),
    "linear, rising": (schedules.linear(0.0, total_steps=7, end=0.4), 0.0, 0.4),
    "polynomial": (
        schedules.polynomial(0.4, total_steps=7, power=0.5, end=0.1),
        0.4,
        0.1,
    ),
    "rex": (schedules.rex(0.4, 7, end=0.1), 0.4, 0.1),
    "piecewise": (schedules.piecewise(0.4, [7], [0.25]), 0.4, 0.1),
    "cosine": (schedules.cosine(0.4, 7, end=0.1), 0.4, 0.1),
    "cosine, warm-up": (schedules.cosine(0.4, 7, warmup_steps=3, end=0.1), 0.0, 0.1),
    "cosine, warm-up alone": (
        schedules.cosine(0.4, 7, warmup_steps=7, end=0.1),
        0.0,
        0.1,
    ),
    "one_cycle": (
        schedules.one_cycle(
            0.4, total_steps=7, start_fraction=0.3, div_factor=4.0, final_div_factor=2.0
        ),
        0.1,
        0.05,
    ),
    "one_cycle, fall": (
        schedules.one_cycle(
            0.4, total_steps=7, start_fraction=0.0, div_factor=4.0, final_div_factor=2.0
        ),
        0.4,
        0.05,
    ),
    "one_cycle, rise": (
        schedules.one_cycle(
            0.4, total_steps=7, start_fraction=1.0, div_factor=4.0, final_div_factor=2.0
        ),
        0.1,
        0.05,
    ),
    "warmup": (
        schedules.warmup(schedules.linear(0.4, total_steps=4, end=0.1), 3, start=0.2),
        0.2,
        0.1,
    ),
    "warmup of 0": (
        schedules.warmup(schedules.linear(0.4, total_steps=7, end=0.1), 0, start=0.2),
        0.4,
        0.1,
    ),
    "refine": (schedules.refine(np.ones(8), 0.4), 0.4, 0.0),
    **{
        f"warmup_stable_decay, {shape}": (
            schedules.warmup_stable_decay(
                0.4, 7, warmup_steps=2, decay_steps=3, shape=shape, end=0.1
            ),
            0.0,
            0.1,
        )
        for shape in (
            "linear",
            "cosine",
            "mirror_cosine",
            "sqrt",
            "square",
            "exponential",
        )
    },
    "warmup_stable_decay, stable": (
        schedules.warmup_stable_decay(0.4, 7, warmup_steps=0, decay_steps=0, end=0.1),
        0.4,
        0.1,
    ),
}


def test_first_rate_and_the_one_from_step_t_on_are_exact():
    made = {name: schedule for name, (schedule, _, _) in FIRST_AND_LAST.items()}
    for name, ours in rates_of_all(made, np.array([0, 7, 8, 1000])).items():
        _, first, last = FIRST_AND_LAST[name]
        np.testing.assert_array_equal(ours[0], np.float32(first), name)
        np.testing.assert_allclose(ours[1:], np.full(3, last), 1e-7, err_msg=name)


def test_runs_of_one_to_three_steps_have_the_rates_of_their_equations():
    shapes = {
        "linear": {"initial": 0.8},
        "polynomial": {"initial": 0.8, "power": 2.0},
        "rex": {"initial": 0.8},
        "cosine": {"peak": 0.8},
        "one_cycle": {"peak": 0.8},
        "warmup_stable_decay": {"peak": 0.8, "warmup_steps": 0, "decay_steps": 1},
    }
    for total_steps in (1, 2, 3):
        made, expected = {}, {}
        for name, arguments in shapes.items():
            arguments = {**arguments, "total_steps": total_steps}
            made[name] = ENTRIES[name].factory(**arguments)
            reference = contract_of(ENTRIES[name]).reference
            expected[name] = [reference(step, **arguments) for step in range(5)]
        for name, ours in rates_of_all(made, np.arange(5)).items():
            assert_close(ours, expected[name])


def test_one_cycle_of_two_steps_does_not_start_at_its_peak():
    """`optax.linear_onecycle_schedule(2, 1.0)` does."""
    ours = rates(
        schedules.one_cycle(1.0, total_steps=2, start_fraction=0.5), np.arange(4)
    )
    np.testing.assert_allclose(ours, [1 / 25, 1.0, 1 / 25e4, 1 / 25e4], 1e-6)


IDENTITIES = {
    "the root of time is a power": (
        schedules.inverse_sqrt(0.3, rate=0.1),
        schedules.power_decay(0.3, 0.5, 0.1),
    ),
    "time is a power": (
        schedules.inverse_time(0.3, rate=0.1),
        schedules.power_decay(0.3, 1, 0.1),
    ),
    "a line is a polynomial": (
        schedules.linear(0.3, total_steps=90, end=0.1),
        schedules.polynomial(0.3, total_steps=90, power=1, end=0.1),
    ),
    "compound interest is exponential": (
        schedules.compound_decay(0.3, 0.06, 12),
        schedules.exponential_decay(0.3, decay_rate=(1 + 0.06 / 12) ** -12),
    ),
    "steps are a staircase": (
        schedules.step_decay(0.3, factor=0.7, every=9),
        schedules.exponential_decay(0.3, decay_rate=0.7, decay_steps=9, staircase=True),
    ),
    "equal factors at equal distances are steps": (
        schedules.step_decay(0.3, factor=0.7, every=9),
        schedules.piecewise(0.3, range(9, 3000, 9), [0.7] * 333),
    ),
    "the first cycle is a cosine": (
        schedules.cosine_restarts(0.3, 5000, 1.5, peak_decay=0.5, end=0.1),
        schedules.cosine(0.3, 5000, end=0.1),
    ),
    "a cosine decays without being stable": (
        schedules.warmup_stable_decay(
            0.3, 90, warmup_steps=10, decay_steps=80, shape="cosine", end=0.1
        ),
        schedules.cosine(0.3, 90, warmup_steps=10, end=0.1),
    ),
    "a warm-up and a cosine, joined": (
        schedules.cosine(0.3, 90, warmup_steps=10, end=0.1),
        schedules.warmup(schedules.cosine(0.3, 80, warmup_steps=0, end=0.1), 10),
    ),
    "exp_range without decay is triangular": (
        schedules.cyclic(0.1, 0.3, 9),
        schedules.cyclic(0.1, 0.3, 9, mode="exp_range"),
    ),
}


def test_two_ways_to_say_the_same_agree():
    one = rates_of_all({name: pair[0] for name, pair in IDENTITIES.items()}, STEPS)
    other = rates_of_all({name: pair[1] for name, pair in IDENTITIES.items()}, STEPS)
    for name in IDENTITIES:
        np.testing.assert_allclose(one[name], other[name], 1e-5, 2e-7, err_msg=name)


def test_inverse_sqrt_can_be_the_schedule_of_the_transformer():
    width, warmup = 512, 400
    steps = np.arange(1, 3000, 7)
    vaswani = width**-0.5 * np.minimum(steps**-0.5, steps * warmup**-1.5)
    peak = (width * warmup) ** -0.5
    assert_close(
        rates(
            schedules.inverse_sqrt(peak, rate=1 / warmup, warmup_steps=warmup), steps
        ),
        vaswani,
    )


def test_known_decay_rates_are_not_rounded_before_they_are_raised():
    ours = schedules.exponential_decay(1.0, decay_rate=0.99995)(200_000)
    np.testing.assert_allclose(ours, 0.99995**200_000, 2e-6)


def test_cycles_restart_at_their_first_step():
    reference = reference_of("cosine_restarts", "schedule")
    made, expected = {}, {}
    for first in (1, 7, 10):
        for mult in (1.0, 1.1, 1.5, 2.0, 3.0):
            arguments = {"first_cycle": first, "cycle_mult": mult, "end": 0.1}
            name = str(arguments)
            made[name] = schedules.cosine_restarts(1.0, **arguments)
            expected[name] = [
                reference(step, peak=1.0, **arguments) for step in range(400)
            ]
    for name, ours in rates_of_all(made, np.arange(400)).items():
        np.testing.assert_allclose(ours, expected[name], 3e-5, err_msg=name)


def test_a_schedule_takes_a_step_an_array_of_steps_and_a_state():
    schedule = schedules.cosine(0.3, 90, warmup_steps=10)
    state = schedule.init()._replace(step=jnp.asarray(30))
    one, many = schedule(30), schedule(np.array([[30, 60]]))
    assert one.shape == ()
    assert many.shape == (1, 2)
    assert one == many[0, 0] == schedule(state)


def test_join_schedules_of_optax_gives_the_same_as_join():
    parts = [schedules.linear(0.1, total_steps=10, end=0.3), schedules.cosine(0.3, 30)]
    with jax.numpy_dtype_promotion("standard"):
        theirs = rates(optax.join_schedules(parts, [10]), np.arange(60))
    assert_close(rates(schedules.join(parts, [10]), np.arange(60)), theirs)
