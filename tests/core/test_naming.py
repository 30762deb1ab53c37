"""The names of a state's scalars are short, of one meaning, and stay as they are."""

import inspect
import sys

import jax
import jax.numpy as jnp
import optax
import pytest

import adaptax
from adaptax._core.naming import method_name, named_scalars
from adaptax.catalog import ENTRIES

PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}


def names(state):
    return list(adaptax.telemetry(state))


def scalars(tx):
    """List the names of the scalars of a state of which only the types are made."""
    return list(named_scalars(jax.eval_shape(tx.init, PARAMS)))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: f"{e.family}-{e.name}")
def test_every_scalar_of_a_method_has_a_name_without_numbers(entry):
    for variant in ({}, *entry.variants):
        state = jax.eval_shape(entry.optimizer(**variant).init, PARAMS)
        found = named_scalars(state)
        shapes = [leaf.shape for leaf in jax.tree.leaves(state)]
        assert len(found) == shapes.count(())
        for name in found:
            first, *rest = name.split("/")
            assert rest, name
            assert not any(part.isdigit() for part in (first, *rest)), name


SEATS = {"constant", "schedule"}
"""What a number, and a function of the step, is called in the seat of a rate."""

PARTS = {
    "adamw": {"adam"},
    "nadam": {"adam"},
    "lamb": {"adam"},
    "muon": {"adam"},
    "self_tuning": {"prodigy", "prodigy_distance", "iterate_average", "muon", "adam"},
    "schedule_free_sgd": {"schedule_free"},
    "schedule_free_adamw": {"schedule_free"},
    "schedule_free_radam": {"schedule_free"},
    "phases": {"reduce_on_plateau"},
    "restore_best": {"reduce_on_plateau"},
}
"""The other methods that a method is made of, which its docstrings name."""


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: f"{e.family}-{e.name}")
def test_a_scalar_is_named_by_the_method_that_was_called_or_a_part_of_it(entry):
    parts = PARTS.get(entry.name, set())
    module = sys.modules[entry.factory.__module__]
    docstrings = f"{module.__doc__} {inspect.getdoc(entry.factory)}".lower()
    assert all(part in docstrings for part in parts)
    allowed = {entry.name, *SEATS, *parts}
    for variant in ({}, *entry.variants):
        state = jax.eval_shape(entry.optimizer(**variant).init, PARAMS)
        for name in named_scalars(state):
            methods = [part for part in name.split("/") if part in METHODS]
            first = name.removeprefix("saved/").removeprefix("inner_state/")
            assert set(methods) <= allowed, name
            assert first.split("/")[0] in allowed, name


METHODS = {entry.name for entry in ENTRIES}


def test_controllers_estimates_and_wrappers_have_their_own_names():
    states = {
        entry.name: jax.eval_shape(entry.make().init, PARAMS)
        for entry in ENTRIES
        if entry.family in ("controller", "estimate", "wrapper")
    }
    for name, state in states.items():
        if not jax.tree.leaves(state):
            continue
        own = {key.split("/")[0] for key in named_scalars(state)} | {method_name(state)}
        assert name in own, own


PLATEAUS = [
    adaptax.reduce_on_plateau(),
    adaptax.reduce_on_plateau(name="validation"),
    adaptax.reduce_on_plateau(monitor="accuracy", mode="max"),
]


@pytest.mark.parametrize(
    ("tx", "expected"),
    [
        (
            adaptax.adam([1e-3, *PLATEAUS]),
            {
                "adam/step",
                "constant/learning_rate",
                "reduce_on_plateau/best",
                "validation/reduce_on_plateau/best",
                "accuracy/reduce_on_plateau/best",
            },
        ),
        (
            optax.chain(adaptax.cosine(1.0, 9), adaptax.linear(1.0, total_steps=9)),
            {"0/schedule/step", "1/schedule/step"},
        ),
        (
            optax.partition(
                {"slow": adaptax.adam(0.1), "fast": adaptax.lion(0.1)},
                {"w": "slow", "b": "fast"},
            ),
            {"adam/step", "slow/constant/step", "fast/constant/step"},
        ),
        (
            adaptax.reject_increase(adaptax.adam(0.1)),
            {"adam/step", "saved/adam/step", "reject_increase/learning_rate"},
        ),
        (
            optax.adam(optax.cosine_decay_schedule(1.0, 9)),
            {"scale_by_adam/count", "scale_by_schedule/count"},
        ),
    ],
    ids=["plateaus", "schedules", "labels", "saved", "Optax"],
)
def test_names_have_no_more_of_the_path_than_tells_two_apart(tx, expected):
    assert expected <= set(scalars(tx))


def test_containers_stand_in_front_by_key():
    states = {name: adaptax.adam(0.1).init(PARAMS) for name in ("actor", "critic")}
    assert {"actor/adam/step", "critic/adam/step"} <= set(names(states))
    assert names(states["actor"])[0] == "adam/step"


def test_names_stay_from_step_to_step_and_under_jit():
    tx = adaptax.gradient_descent([0.1, PLATEAUS[0]])
    state = tx.init(PARAMS)
    before = adaptax.telemetry(state)
    _, state = tx.update(PARAMS, state, PARAMS, value=1.0)
    after = jax.jit(adaptax.telemetry)(state)
    assert before.keys() == after.keys()
    assert int(after["constant/step"]) == int(before["constant/step"]) + 1


def test_a_method_inside_itself_is_told_apart():
    tx = adaptax.monitor(adaptax.monitor(adaptax.gradient_descent(0.1)))
    assert {"monitor/stalled", "inner_state/monitor/stalled"} <= set(scalars(tx))
    assert len(scalars(tx)) == len(set(scalars(tx)))


def test_names_that_would_collide_are_the_whole_path():
    state = {"adam": {"step": jnp.zeros(())}, "x": adaptax.adam(0.1).init(PARAMS)}
    found = names(state)
    assert {"adam/step", "x/0/step"} <= set(found)
    assert len(found) == len(set(found)) == 6
