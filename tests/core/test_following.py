"""Controllers: what they listen to, when they count, and what they observe."""

from inspect import signature

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptax
from adaptax._core import following
from adaptax.catalog import ENTRIES


def plateau(**arguments):
    return adaptax.reduce_on_plateau(factor=0.5, patience=0, **arguments)


def nested(wrap, controller):
    """Put a controller that listens to `observe` into an optimizer."""
    return wrap(optax.chain(adaptax.constant(1.0), controller))


def alone(rate):
    return adaptax.adam(rate)


WRAPPERS = {
    "chain": alone,
    "a chain in a chain": lambda rate: optax.chain(optax.clip(1.0), alone(rate)),
    "masked": lambda rate: optax.masked(alone(rate), {"a": True, "b": True}),
    "MultiSteps": lambda rate: optax.MultiSteps(alone(rate), 2),
    "accumulate": lambda rate: adaptax.accumulate(alone(rate), 2),
    "monitor": lambda rate: adaptax.monitor(alone(rate)),
    "apply_if_finite": lambda rate: optax.apply_if_finite(alone(rate), 2),
    "inject_hyperparams": lambda rate: optax.inject_hyperparams(
        lambda b1: adaptax.adam(rate, b1)
    )(b1=0.9),
}
PARAMS = {"a": jnp.ones(2), "b": jnp.ones(())}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_observe_advances_a_controller_wherever_it_is_nested(wrap, compiled):
    controller = plateau(monitor=None)
    state = nested(wrap, controller).init(PARAMS)
    observe = jax.jit(controller.observe) if compiled else controller.observe
    for metric in (1.0, 1.0, 1.0):
        before, state = state, observe(state, metric)
    assert adaptax.learning_rate(state) == 0.25
    assert jax.tree.structure(state) == jax.tree.structure(before)


def test_observe_advances_the_controller_of_every_group():
    controller = plateau(monitor=None)
    optimizer = optax.partition(
        {"x": nested(alone, controller), "y": nested(alone, controller)},
        {"a": "x", "b": "y"},
    )
    state = optimizer.init(PARAMS)
    for metric in (1.0, 1.0):
        state = controller.observe(state, metric)
    assert adaptax.learning_rate(state) == {"x": 0.5, "y": 0.5}


def test_what_is_observed_is_applied_at_the_next_update():
    controller = plateau(monitor=None)
    optimizer = adaptax.gradient_descent([1.0, controller])
    state = optimizer.init(PARAMS)
    for metric in (1.0, 1.0):
        state = controller.observe(state, metric)
    updates, after = optimizer.update(PARAMS, state)
    np.testing.assert_array_equal(updates["a"], -0.5)
    followed = [optax.tree.get(tree, "followed") for tree in (after, state)]
    jax.tree.map(np.testing.assert_array_equal, *followed)


def test_only_updates_count_as_steps():
    controller = plateau(monitor=None)
    state = controller.init(PARAMS)
    for metric in (1.0, 1.0, 1.0):
        state = controller.observe(state, metric)
    assert int(state.step) == 0
    _, state = controller.update(PARAMS, state)
    assert int(state.step) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"monitor": None, "name": "one"}, {"monitor": None, "name": "two"}),
        ({"monitor": "value"}, {"monitor": "accuracy"}),
        ({"monitor": "value"}, {"monitor": None}),
    ],
)
def test_two_controllers_are_told_apart_by_name_or_by_what_they_listen_to(
    first, second
):
    one, two = plateau(**first), plateau(**second)
    state = adaptax.gradient_descent([1.0, one, two]).init(PARAMS)
    for metric in (1.0, 1.0):
        state = one.observe(state, metric)
    assert adaptax.learning_rate(state) == 0.5
    for metric in (1.0, 1.0, 1.0):
        state = two.observe(state, metric)
    assert adaptax.learning_rate(state) == 0.125


LISTENING = [
    entry
    for entry in ENTRIES
    if entry.family == "controller"
    and "monitor" in signature(entry.factory).parameters
    and "value" in entry.needs
]


def controllers_in(state):
    def is_one(node):
        return isinstance(node, following.ControllerState)

    return [node for node in jax.tree.leaves(state, is_leaf=is_one) if is_one(node)]


@pytest.mark.parametrize("entry", LISTENING, ids=lambda entry: entry.name)
def test_observe_refuses_to_choose_between_two_controllers_of_one_kind(entry):
    one, two = entry.make(monitor=None), entry.make(monitor=None)
    named = entry.make(monitor=None, name="named")
    alone = adaptax.gradient_descent([1.0, one, named]).init(PARAMS)
    for several in (
        adaptax.gradient_descent([1.0, one, named, two]).init(PARAMS),
        optax.chain(two, adaptax.accumulate(adaptax.adam([1.0, one]), 2)).init(PARAMS),
        {"generator": alone, "discriminator": alone},
        (alone, optax.MaskedState(alone)),
    ):
        with pytest.raises(ValueError, match=r"2 controllers that could be.*a name"):
            one.observe(several, 1.0)


@pytest.mark.parametrize("entry", LISTENING, ids=lambda entry: entry.name)
def test_controllers_with_names_hear_each_its_own_metrics(entry):
    one, two = (entry.make(monitor=None, name=name) for name in ("one", "two"))
    optimizer = adaptax.gradient_descent([1.0, one, two])
    state = optimizer.init(PARAMS)
    observed = two.observe(one.observe(state, 1.0), jnp.nan)
    first, second = controllers_in(observed)
    assert (int(first.skipped), int(second.skipped)) == (0, 1)
    alone = one.observe(one.init(PARAMS), 1.0)
    chex.assert_trees_all_equal(first.followed, alone.followed)


@pytest.mark.parametrize("entry", LISTENING, ids=lambda entry: entry.name)
def test_copies_of_a_controller_in_the_groups_of_a_partition_are_one(entry):
    one = entry.make(monitor=None)
    groups = {label: adaptax.adam([1.0, one]) for label in "xy"}
    for optimizer in (
        optax.partition(groups, {"a": "x", "b": "y"}),
        adaptax.reject_increase(adaptax.adam([1.0, one])),  # keeps one to go back to
    ):
        copies = controllers_in(one.observe(optimizer.init(PARAMS), jnp.nan))
        assert [int(copy.skipped) for copy in copies] == [1, 1]


SEATED = [entry for entry in ENTRIES if entry.has_seat]


@pytest.mark.parametrize("entry", SEATED, ids=lambda entry: entry.name)
def test_a_controller_is_found_in_the_seat_of(entry):
    controller = plateau(monitor=None)
    optimizer = entry.make(learning_rate=[0.5, controller])

    def observed():
        return controller.observe(optimizer.init(PARAMS), 1.0)

    assert controllers_in(jax.eval_shape(observed))


@pytest.mark.parametrize(
    "other",
    [alone(0.1), alone([1.0, plateau(name="another")]), optax.adam(0.1)],
    ids=["a number", "another name", "Optax"],
)
def test_observing_a_state_without_the_controller_is_an_error(other):
    with pytest.raises(ValueError, match=r"no state of this controller.*'mine'"):
        plateau(name="mine").observe(other.init(PARAMS), 1.0)


def test_two_controllers_read_their_own_extra_arguments():
    optimizer = adaptax.gradient_descent(
        [1.0, plateau(), plateau(monitor="accuracy", mode="max")]
    )
    state = optimizer.init(PARAMS)
    for value, accuracy in [(3.0, 0.1), (2.0, 0.1), (1.0, 0.1)]:
        _, state = optimizer.update(PARAMS, state, value=value, accuracy=accuracy)
    assert adaptax.learning_rate(state) == 0.25
    with pytest.raises(TypeError, match="`accuracy`"):
        optimizer.update(PARAMS, state, value=1.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_observed_metric_that_is_not_finite_is_counted_alone(bad):
    controller = plateau(monitor=None)
    state = controller.init(PARAMS)
    after = controller.observe(state, bad)
    jax.tree.map(np.testing.assert_array_equal, after.followed, state.followed)
    assert int(after.skipped) == 1


@pytest.mark.parametrize(
    "value",
    [1.0, 1, True, np.float64(1), jnp.ones((), jnp.bfloat16), np.ones((), np.int64)],
    ids=repr,
)
def test_a_metric_of_any_real_type_is_taken(value):
    controller = plateau()
    _, state = controller.update(PARAMS, controller.init(PARAMS), value=value)
    assert state.followed["value"].best == 1
    assert state.followed["value"].best.dtype == jnp.float32
    observed = controller.observe(controller.init(PARAMS), value)
    jax.tree.map(np.testing.assert_array_equal, observed.followed, state.followed)


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 2)])
def test_a_metric_that_is_no_scalar_is_an_error(shape):
    controller = plateau()
    with pytest.raises(ValueError, match=r"value must be a scalar.*Take its mean"):
        controller.update(PARAMS, controller.init(PARAMS), value=np.ones(shape))
    with pytest.raises(ValueError, match="metric must be a scalar"):
        controller.observe(controller.init(PARAMS), np.ones(shape))


def test_a_complex_metric_is_an_error():
    controller = plateau()
    with pytest.raises(TypeError, match="value must be real"):
        controller.update(PARAMS, controller.init(PARAMS), value=1j)


def test_an_int_and_a_float_metric_share_a_program_of_their_type():
    controller, traces = plateau(), []

    @jax.jit
    def step(state, value):
        traces.append("traced")
        return controller.update(PARAMS, state, value=value)[1]

    state = controller.init(PARAMS)
    for value in (1.0, 2.0, np.float32(3.0), 4.0):
        state = step(state, jnp.asarray(value).astype(jnp.float32))
    assert len(traces) == 1
