"""What the arguments of schedules may be, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adaptax import catalog, schedules
from adaptax.schedules import (
    compound_decay,
    constant,
    cosine,
    cosine_restarts,
    cyclic,
    exponential_decay,
    inverse_sqrt,
    inverse_time,
    join,
    linear,
    one_cycle,
    piecewise,
    polynomial,
    power_decay,
    refine,
    rex,
    step_decay,
    warmup,
    warmup_stable_decay,
)

ENTRIES = {e.name: e for e in catalog.ENTRIES if e.family == "schedule"}
NAN, INF = float("nan"), float("inf")

OUT_OF_RANGE = {
    "initial": [
        lambda: linear(-0.1, total_steps=10),
        lambda: linear(NAN, total_steps=10),
        lambda: linear(INF, total_steps=10),
        lambda: linear(1e-320, total_steps=10),
        lambda: linear(jnp.ones((1,)), total_steps=10),
        lambda: exponential_decay(-1.0, decay_rate=0.9),
        lambda: compound_decay(-1.0, 0.9),
        lambda: inverse_sqrt(-1.0),
        lambda: inverse_time(-1.0, rate=0.1),
        lambda: power_decay(-1.0, 0.1),
        lambda: polynomial(-1.0, total_steps=10, power=2.0),
        lambda: rex(-1.0, 10),
        lambda: step_decay(-1.0, factor=0.1, every=10),
        lambda: piecewise(-1.0, [1], [0.1]),
    ],
    "peak": [
        lambda: cosine(-0.1, 10),
        lambda: cosine_restarts(NAN, 10),
        lambda: one_cycle(INF, total_steps=10),
        lambda: warmup_stable_decay(-0.1, 10, warmup_steps=1, decay_steps=1),
        lambda: refine([1.0, 1.0], -1.0),
    ],
    "end": [
        lambda: linear(0.1, total_steps=10, end=-0.1),
        lambda: polynomial(0.1, total_steps=10, power=2.0, end=NAN),
        lambda: exponential_decay(0.1, decay_rate=0.9, end=0.2),
        lambda: cosine(0.1, 10, end=0.2),
        lambda: cosine_restarts(0.1, 10, end=0.2),
        lambda: warmup_stable_decay(0.1, 10, warmup_steps=1, decay_steps=1, end=0.2),
        lambda: rex(0.1, 10, end=0.2),
    ],
    "total_steps": [
        lambda: linear(0.1, total_steps=0),
        lambda: linear(0.1, total_steps=-5),
        lambda: linear(0.1, total_steps=NAN),
        lambda: linear(0.1, total_steps=np.array([10, 20])),
        lambda: polynomial(0.1, total_steps=0, power=2.0),
        lambda: rex(0.1, 0),
        lambda: cosine(0.1, 0),
        lambda: one_cycle(0.1, total_steps=INF),
        lambda: warmup_stable_decay(0.1, 0, warmup_steps=0, decay_steps=0),
        lambda: warmup_stable_decay(0.1, 10, warmup_steps=6, decay_steps=5),
        lambda: refine([1.0, 1.0], total_steps=0),
    ],
    "warmup_steps": [
        lambda: cosine(0.1, 10, warmup_steps=11),
        lambda: cosine(0.1, 10, warmup_steps=-1),
        lambda: inverse_sqrt(0.1, warmup_steps=-1),
        lambda: cosine_restarts(0.1, 5, warmup_steps=6),
        lambda: warmup_stable_decay(0.1, 10, warmup_steps=-1, decay_steps=1),
    ],
    "decay_steps": [
        lambda: exponential_decay(0.1, decay_rate=0.9, decay_steps=0),
        lambda: warmup_stable_decay(0.1, 10, warmup_steps=1, decay_steps=-1),
    ],
    "decay_rate": [
        lambda: exponential_decay(0.1, decay_rate=0.0),
        lambda: exponential_decay(0.1, decay_rate=1.5),
        lambda: exponential_decay(0.1, decay_rate=NAN),
    ],
    "factor": [
        lambda: step_decay(0.1, factor=0.0, every=5),
        lambda: step_decay(0.1, factor=1.1, every=5),
    ],
    "factors": [
        lambda: piecewise(0.1, [1], [-0.5]),
        lambda: piecewise(0.1, [1], [NAN]),
        lambda: piecewise(1.0, [1, 2], [1e30, 1e30]),
    ],
    "boundaries": [
        lambda: piecewise(0.1, [5, 3], [0.5, 0.5]),
        lambda: piecewise(0.1, [5, 5], [0.5, 0.5]),
        lambda: piecewise(0.1, [-1, 5], [0.5, 0.5]),
        lambda: piecewise(0.1, [1, NAN], [0.5, 0.5]),
        lambda: piecewise(0.1, [1, 2], [0.5]),
        lambda: piecewise(0.1, np.array([[1, 2]]), [0.5]),
        lambda: join([constant(0.1)] * 3, [5, 3]),
        lambda: join([constant(0.1)] * 3, [5]),
    ],
    "every": [
        lambda: step_decay(0.1, factor=0.5, every=0),
        lambda: inverse_time(0.1, rate=0.5, every=0),
    ],
    "rate": [lambda: inverse_time(0.1, rate=-0.1), lambda: compound_decay(0.1, -0.1)],
    "periods": [lambda: compound_decay(0.1, 0.1, 0)],
    "power": [
        lambda: polynomial(0.1, total_steps=10, power=0.0),
        lambda: power_decay(0.1, -1.0),
    ],
    "first_cycle": [lambda: cosine_restarts(0.1, 0)],
    "cycle_mult": [lambda: cosine_restarts(0.1, 5, 0.5)],
    "peak_decay": [lambda: cosine_restarts(0.1, 5, peak_decay=0.0)],
    "low": [lambda: cyclic(0.2, 0.1, 5), lambda: schedules.clamp(constant(1.0), 2, 1)],
    "high": [lambda: cyclic(0.2, NAN, 5)],
    "half_cycle": [lambda: cyclic(0.1, 0.2, 0)],
    "mode": [lambda: cyclic(0.1, 0.2, 5, mode="square")],
    "gamma": [lambda: cyclic(0.1, 0.2, 5, gamma=0.0)],
    "start_fraction": [lambda: one_cycle(0.1, total_steps=10, start_fraction=1.5)],
    "div_factor": [lambda: one_cycle(0.1, total_steps=10, div_factor=0.5)],
    "final_div_factor": [lambda: one_cycle(0.1, total_steps=10, final_div_factor=0.0)],
    "anneal": [lambda: one_cycle(0.1, total_steps=10, anneal="cos")],
    "shape": [
        lambda: warmup_stable_decay(
            0.1, 10, warmup_steps=1, decay_steps=1, shape="step"
        )
    ],
    "steps": [lambda: warmup(constant(0.1), -1), lambda: schedules.offset(min, NAN)],
    "fall_steps": [lambda: cyclic(0.1, 0.2, 5, 0)],
    "start": [
        lambda: cosine_restarts(0.1, 5, start=-0.1),
        lambda: warmup(constant(0.1), 5, start=-0.1),
    ],
    "ratio": [lambda: schedules.stretch(constant(0.1), 0)],
    "schedules": [lambda: join([], []), lambda: schedules.multiply()],
    "grad_norms": [
        lambda: refine([1.0]),
        lambda: refine([1.0, NAN]),
        lambda: refine([1.0, -1.0]),
        lambda: refine(np.ones((2, 2))),
    ],
    "norm": [lambda: refine([1.0, 1.0], norm="max")],
    "padding": [lambda: refine([1.0, 1.0], padding="wrap")],
}


@pytest.mark.parametrize("name", OUT_OF_RANGE)
def test_a_value_out_of_range_is_an_error_that_names_the_argument(name):
    for make in OUT_OF_RANGE[name]:
        with pytest.raises(ValueError, match=rf"(^|\W){name}\b.*, got "):
            make()


@pytest.mark.parametrize("wrong", [True, None, "1", 1j, [0.1]], ids=repr)
def test_what_is_no_number_is_a_type_error(wrong):
    for make in (
        lambda: linear(wrong, total_steps=10),
        lambda: linear(0.1, total_steps=wrong),
        lambda: cosine(0.1, 10, warmup_steps=wrong),
        lambda: step_decay(0.1, factor=wrong, every=5),
        lambda: warmup(constant(0.1), wrong),
    ):
        with pytest.raises(TypeError, match="must be a"):
            make()


def test_what_cannot_be_called_is_no_schedule():
    for make in (
        lambda: warmup(0.1, 5),
        lambda: join([constant(0.1), 0.1], [5]),
        lambda: schedules.multiply(constant(0.1), 0.5),
        lambda: schedules.stretch(0.1, 2),
        lambda: schedules.offset(None, 2),
        lambda: schedules.clamp(0.1, 0, 1),
    ):
        with pytest.raises(TypeError, match="step -> rate"):
            make()


def test_known_arguments_are_checked_inside_jit_as_well():
    def make(rate):
        return cosine(rate, 10, warmup_steps=11)(0)

    with pytest.raises(ValueError, match="warmup_steps must be <= total_steps"):
        jax.jit(make)(0.1)


@pytest.mark.parametrize(
    "number",
    [np.float64, np.float32, np.float16, jnp.bfloat16, jnp.float16, np.asarray],
    ids=lambda kind: getattr(kind, "__name__", str(kind)),
)
def test_numbers_of_any_type_make_float32_rates(number):
    made = (
        linear(number(0.5), total_steps=number(8), end=number(0.25)),
        cosine(number(0.5), number(8), warmup_steps=number(2), end=number(0.25)),
        cosine_restarts(number(0.5), number(8), number(2), peak_decay=number(0.5)),
        cyclic(
            number(0.25), number(0.5), number(8), mode="exp_range", gamma=number(0.5)
        ),
        step_decay(number(0.5), factor=number(0.5), every=number(8)),
        warmup_stable_decay(
            number(0.5), number(8), warmup_steps=number(1), decay_steps=number(2)
        ),
        schedules.offset(
            schedules.stretch(linear(0.5, total_steps=8), number(2)), number(1)
        ),
    )
    steps = jnp.arange(20)
    for rates in jax.jit(lambda steps: [schedule(steps) for schedule in made])(steps):
        assert rates.dtype == jnp.float32
        assert np.all(np.isfinite(rates))


def test_steps_beyond_the_integers_may_be_given_as_total_steps():
    far = 2**40
    for schedule in (
        linear(0.1, total_steps=far),
        cosine(0.1, far),
        step_decay(0.1, factor=0.5, every=far),
        cyclic(0.1, 0.2, far, far),
        warmup(constant(0.1), 0),
        piecewise(0.1, [10, far], [1.0, 0.5]),
        schedules.offset(constant(0.1), -far),
    ):
        np.testing.assert_allclose(schedule(1000), 0.1, 1e-6)


def test_a_population_of_lengths_is_one_vmap():
    lengths = np.array([1, 2, 3, 10, 37])
    steps = jnp.arange(50)

    def rates(total_steps):
        return cosine(0.3, total_steps, end=0.1)(steps)

    alone = jax.jit(lambda: jnp.stack([rates(int(length)) for length in lengths]))()
    together = jax.jit(jax.vmap(rates))(lengths)
    np.testing.assert_allclose(together, alone, 1e-5)


EDGES = [
    (cosine, {"peak": 0.3, "total_steps": 9.0, "warmup_steps": 0.0, "end": 0.0}),
    (cosine, {"peak": 0.3, "total_steps": 9.0, "warmup_steps": 9.0, "end": 0.3}),
    (inverse_sqrt, {"initial": 0.3, "rate": 0.0, "warmup_steps": 0.0}),
    (polynomial, {"initial": 0.3, "total_steps": 1.0, "power": 0.3, "end": 0.0}),
    (cosine_restarts, {"peak": 0.3, "first_cycle": 9.0, "cycle_mult": 1.0}),
    (cosine_restarts, {"peak": 0.3, "first_cycle": 9.0, "warmup_steps": 9.0}),
    (cyclic, {"low": 0.1, "high": 0.3, "half_cycle": 1.0, "fall_steps": 1.0}),
    (one_cycle, {"peak": 0.3, "total_steps": 2.0, "start_fraction": -0.5}),
    (one_cycle, {"peak": 0.0, "total_steps": 9.0, "start_fraction": 0.0}),
    (one_cycle, {"peak": 0.3, "total_steps": 9.0, "start_fraction": 1.0}),
    (
        lambda **arguments: warmup_stable_decay(shape="sqrt", **arguments),
        {"peak": 0.3, "total_steps": 9.0, "warmup_steps": 0.0, "decay_steps": 9.0},
    ),
    (
        warmup_stable_decay,
        {"peak": 0.3, "total_steps": 9.0, "warmup_steps": 9.0, "decay_steps": 0.0},
    ),
    (
        lambda steps, start: warmup(linear(0.3, total_steps=5), steps, start=start),
        {"steps": 0.0, "start": 0.0},
    ),
    (
        lambda ratio, steps: schedules.offset(
            schedules.stretch(linear(0.3, total_steps=5), ratio), steps
        ),
        {"ratio": 1.0, "steps": 0.0},
    ),
]


def float_arguments(entry):
    """Return the numbers of an entry as floats, and the rest."""
    numbers = {
        name: float(value)
        for name, value in entry.hyperparameters.items()
        if isinstance(value, int | float)
    }
    rest = {k: v for k, v in entry.hyperparameters.items() if k not in numbers}
    return numbers, rest


def assert_gradients_are_finite(rates, numbers):
    """Differentiate the sum: one step that gives NaN or infinity spoils it."""
    steps = jnp.array([0, 1, 5, 8, 9, 10, 40, 1000, 2**30], jnp.int32)

    def total(numbers):
        return sum(value.sum() for value in rates(numbers, steps))

    quickly = {"xla_backend_optimization_level": 0}
    gradients = jax.jit(jax.grad(total), compiler_options=quickly)(numbers)
    for path, leaf in jax.tree.leaves_with_path(gradients):
        assert np.all(np.isfinite(leaf)), path


@pytest.mark.parametrize("name", ENTRIES)
def test_gradients_by_every_number_are_finite(name):
    entry = ENTRIES[name]
    numbers, rest = float_arguments(entry)

    def rates(numbers, steps):
        for variant in ({}, *entry.variants):
            yield entry.factory(**{**numbers, **rest, **variant})(steps)

    assert_gradients_are_finite(rates, numbers)


def test_gradients_are_finite_at_the_edges_of_the_ranges():
    def rates(numbers, steps):
        for (factory, _), arguments in zip(EDGES, numbers, strict=True):
            yield factory(**arguments)(steps)

    assert_gradients_are_finite(rates, [numbers for _, numbers in EDGES])


@pytest.mark.parametrize("name", ["cosine", "cosine_restarts", "step_decay", "cyclic"])
def test_another_number_does_not_compile_again(name):
    numbers, rest = float_arguments(ENTRIES[name])
    traces = []

    @jax.jit
    def rate(numbers, step):
        traces.append(name)
        return ENTRIES[name].factory(**numbers, **rest)(step)

    rate(numbers, 3)
    for key in numbers:
        rate({**numbers, key: numbers[key] * 1.25}, 3)
    assert traces == [name]
