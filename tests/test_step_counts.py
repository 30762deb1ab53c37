"""A number of steps is a whole one, wherever it is taken."""

import inspect
import re

import jax
import jax.numpy as jnp
import pytest

import adaptax
from adaptax import catalog, schedules

COUNTS = {
    "total_steps",
    "warmup_steps",
    "decay_steps",
    "fall_steps",
    "first_cycle",
    "half_cycle",
    "steps",
    "every",
    "patience",
    "cooldown",
    "cooldown_at",
    "warmup",
    "reset",
    "window",
    "trend",
    "max_lost",
    "max_trials",
    "freeze_after",
    "slice_p",
    "block",
    "smallest",
    "largest",
}
"""The names of the arguments that count steps, metrics or elements."""

SCHEDULES = {"phases": {"warmup", "cooldown"}}
"""Arguments of these names that are schedules."""

PLACES = [
    (entry, name)
    for entry in catalog.ENTRIES
    for name in inspect.signature(entry.factory).parameters
    if name in COUNTS - SCHEDULES.get(entry.name, set())
]
WRONG = [0.5, 0.06, 1e-5, 10.5, float("nan"), float("inf"), -1, True, "10"]

every_place = pytest.mark.parametrize(
    ("entry", "name"),
    PLACES,
    ids=lambda value: getattr(value, "name", value),
)


@every_place
@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_what_is_no_whole_number_of_steps_is_refused_by_name(entry, name, wrong):
    with pytest.raises((TypeError, ValueError)) as refused:
        entry.make(**{name: wrong})
    assert re.match(rf"{name} must be .*, got ", str(refused.value))


def test_every_schedule_over_some_steps_is_among_those_tried():
    tried = {entry.name for entry, _ in PLACES}
    ageless = {"constant", "compound_decay", "power_decay", "piecewise"}
    of_schedules = {e.name for e in catalog.ENTRIES if e.family == "schedule"}
    assert of_schedules - tried == ageless


@pytest.mark.parametrize(
    ("entry", "name"),
    [place for place in PLACES if place[0].family == "schedule"],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_whole_float_counts_the_steps_of_a_schedule(entry, name):
    steps = jnp.arange(50)
    example = entry.hyperparameters.get(name, 10)
    made = [entry.make(**{name: as_type(example)})(steps) for as_type in (int, float)]
    assert jnp.allclose(*made, rtol=1e-6)


def test_boundaries_are_whole_steps():
    for boundaries in ([0.5, 3], [1, 10.5], jnp.array([1.0, 2.5])):
        for make in (
            lambda at: schedules.piecewise(0.1, at, [0.5, 0.5]),
            lambda at: schedules.join([schedules.constant(0.1)] * 3, at),
        ):
            with pytest.raises(ValueError, match="boundaries must be whole numbers"):
                make(boundaries)


def test_a_part_of_a_run_in_place_of_steps_names_the_remedy():
    with pytest.raises(ValueError, match=r"give round\(0.06 \* total_steps\)"):
        adaptax.cosine(peak=1e-3, total_steps=1000, warmup_steps=0.06)


def test_an_offset_may_be_negative_but_not_a_part_of_a_step():
    assert float(schedules.offset(schedules.linear(1.0, total_steps=4), -2)(0)) == 0.5
    with pytest.raises(ValueError, match=r"steps must be a whole number, got 0\.5"):
        schedules.offset(schedules.constant(0.1), 0.5)


def test_a_traced_number_of_steps_passes():
    def rate(total_steps):
        return adaptax.linear(1.0, total_steps=total_steps)(1)

    assert float(jax.jit(rate)(2.5)) == pytest.approx(0.6)


TOOLS = {
    adaptax.find_learning_rate: ["num_steps"],
    adaptax.sweep: ["num_steps"],
    adaptax.successive_halving: ["num_steps", "first_rung", "eta"],
    adaptax.median_stopping: ["num_steps", "interval"],
    adaptax.population_based_training: ["num_steps", "interval", "members"],
    adaptax.branch: ["stages", "stage_steps", "explore_steps", "branches"],
    adaptax.search_schedule: ["num_steps", "knots", "population", "generations"],
}


def untried():
    """Make a trial that no test here runs."""
    return adaptax.trial(
        lambda key: jnp.zeros(()),
        lambda params, batch: (params - batch).mean() ** 2,
        lambda hparams: adaptax.gradient_descent(hparams["learning_rate"]),
        jnp.zeros((8,)),
    )


@pytest.mark.parametrize(
    ("tool", "name"),
    [(tool, name) for tool, names in TOOLS.items() for name in names],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_tools_refuse_steps_that_are_no_whole_number(tool, name):
    known = {
        "num_steps": 40,
        "interval": 10,
        "stages": 2,
        "stage_steps": 10,
        "samples": 9,
        "space": {"learning_rate": adaptax.spaces.log_uniform(1e-3, 1.0)},
    }
    takes = inspect.signature(tool).parameters
    arguments = {key: value for key, value in known.items() if key in takes}
    for wrong in (0.5, True, float("nan"), "10", 0):
        with pytest.raises((TypeError, ValueError), match=rf"{name} must be "):
            tool(untried(), **{**arguments, name: wrong})
