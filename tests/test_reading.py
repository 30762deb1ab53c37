"""Reading and setting rates through every wrapper."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from flax import nnx, struct
from flax.training.train_state import TrainState

import adaptax
from adaptax.catalog import ENTRIES

PARAMS = {"a": jnp.ones((2, 3)), "b": jnp.full((4,), 2.0)}
GRADIENTS = {"a": jnp.full((2, 3), 0.5), "b": jnp.ones(4)}


@pytest.fixture(autouse=True)
def _as_optax_promotes():
    """Optax's MultiSteps and inject_hyperparams rely on implicit promotion."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def halving(start):
    return adaptax.as_schedule(lambda step: start * 0.5 ** step.astype(jnp.float32))


def after(optimizer, steps, params=PARAMS, **extra_args):
    state = optimizer.init(params)
    gradients = jax.tree.map(jnp.ones_like, params)
    for _ in range(steps):
        _, state = optimizer.update(gradients, state, params, **extra_args)
    return state


def rate_of(state):
    return float(adaptax.learning_rate(state))


WRAPPERS = {
    "bare": lambda rate: adaptax.gradient_descent(rate),
    "chain of chains": lambda rate: optax.chain(
        optax.clip(1.0), optax.chain(adaptax.scale_by_adam(), adaptax.descend(rate))
    ),
    "masked": lambda rate: optax.masked(
        adaptax.gradient_descent(rate), {"a": True, "b": False}
    ),
    "MultiSteps": lambda rate: optax.MultiSteps(
        adaptax.gradient_descent(rate), every_k_schedule=1
    ).gradient_transformation(),
    "accumulate": lambda rate: adaptax.accumulate(adaptax.gradient_descent(rate), 1),
    "monitor": lambda rate: adaptax.monitor(adaptax.adam(rate)),
    "apply_if_finite": lambda rate: optax.apply_if_finite(adaptax.adam(rate), 3),
    "inject adaptax": lambda rate: optax.inject_hyperparams(adaptax.gradient_descent)(
        learning_rate=rate
    ),
    "inject optax": lambda rate: optax.inject_hyperparams(optax.sgd)(
        learning_rate=rate
    ),
    "monitored injection in accumulate": lambda rate: adaptax.accumulate(
        adaptax.monitor(
            optax.inject_hyperparams(adaptax.gradient_descent)(learning_rate=rate)
        ),
        1,
    ),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS.keys())
@pytest.mark.parametrize("steps", [1, 3])
def test_the_rate_is_the_one_applied_at_the_latest_step(wrap, steps):
    state = after(wrap(halving(0.5)), steps)
    assert rate_of(state) == 0.5**steps


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS.keys())
def test_a_constant_rate_can_be_set_through_every_wrapper(wrap):
    optimizer = wrap(0.5)
    state = adaptax.set_learning_rate(optimizer.init(PARAMS), 0.125)
    assert rate_of(state) == 0.125
    _, state = optimizer.update(GRADIENTS, state, PARAMS)
    assert rate_of(state) == 0.125


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS.keys())
def test_a_scheduled_rate_cannot_be_set(wrap):
    with pytest.raises(ValueError, match="schedule"):
        adaptax.set_learning_rate(wrap(halving(0.5)).init(PARAMS), 0.1)


def test_rates_in_a_chain_multiply():
    chain = optax.chain(halving(0.5), adaptax.constant(0.25), halving(4.0))
    assert rate_of(after(chain, 2)) == 0.25 * 0.25 * 2.0


def test_a_partition_gives_the_rates_by_label():
    groups = {"x": adaptax.adam(0.5), "y": optax.sgd(1.0), "z": halving(1.0)}
    partition = optax.partition(groups, {"a": "x", "b": "z"})
    rates = adaptax.learning_rate(after(optax.chain(partition, halving(1.0)), 2))
    assert {label: float(rate) for label, rate in rates.items()} == {
        "x": 0.25,
        "z": 0.25,
    }


def test_a_partition_takes_rates_by_label():
    groups = {"x": adaptax.adam(0.5), "y": adaptax.adam(0.5)}
    optimizer = optax.partition(groups, {"a": "x", "b": "y"})
    state = adaptax.set_learning_rate(optimizer.init(PARAMS), {"y": 0.125})
    rates = adaptax.learning_rate(state)
    assert {label: float(rate) for label, rate in rates.items()} == {
        "x": 0.5,
        "y": 0.125,
    }
    state = adaptax.set_learning_rate(state, 0.25)
    assert set(map(float, adaptax.learning_rate(state).values())) == {0.25}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"w": 0.1}, "no label 'w'"),
        ({"z": 0.1}, "label 'z' has no constant"),
        (-0.1, "value must be >= 0"),
        (float("nan"), "value must be >= 0"),
    ],
)
def test_setting_a_partition_wrongly_is_refused(value, message):
    groups = {"x": adaptax.adam(0.5), "z": halving(1.0)}
    state = optax.partition(groups, {"a": "x", "b": "z"}).init(PARAMS)
    with pytest.raises(ValueError, match=message):
        adaptax.set_learning_rate(state, value)


def test_one_of_two_constant_rates_cannot_be_chosen():
    state = optax.chain(adaptax.constant(0.1), adaptax.constant(0.1)).init(PARAMS)
    with pytest.raises(ValueError, match="several"):
        adaptax.set_learning_rate(state, 0.2)


def test_labels_are_refused_where_there_are_none():
    with pytest.raises(ValueError, match="without labels"):
        adaptax.set_learning_rate(adaptax.adam(0.1).init(PARAMS), {"x": 0.2})


def test_two_injected_rates_are_read_as_their_product():
    inject = optax.inject_hyperparams(optax.sgd)
    chain = optax.chain(inject(learning_rate=0.5), inject(learning_rate=0.25))
    assert rate_of(chain.init(PARAMS)) == 0.125


def test_a_state_without_a_rate_says_how_to_keep_one():
    with pytest.raises(ValueError, match=r"adaptax\.adam"):
        adaptax.learning_rate(optax.adam(1e-3).init(PARAMS))


class Both(NamedTuple):
    generator: Any
    discriminator: Any


@struct.dataclass
class BothStates:
    generator: Any
    discriminator: Any


def numpyro_states(one, other):
    """Nest two states as NumPyro's SVI does: a step, parameters and a state each."""
    return Both(
        (jnp.zeros((), int), (PARAMS, one)), (jnp.zeros((), int), (PARAMS, other))
    )


CONTAINERS = {
    "dict": lambda one, other: {"generator": one, "discriminator": other},
    "NamedTuple": Both,
    "dataclass": BothStates,
    "NumPyro": numpyro_states,
    "dict of TrainStates": lambda one, other: {
        "generator": linen(one),
        "discriminator": linen(other),
    },
}


def linen(opt_state):
    state = TrainState.create(apply_fn=None, params=PARAMS, tx=adaptax.adam(0.1))
    return state.replace(opt_state=opt_state)


@pytest.mark.parametrize("put", CONTAINERS.values(), ids=CONTAINERS)
def test_the_rates_of_several_optimizers_are_read_and_set_by_key(put):
    tx = adaptax.adam([0.5, adaptax.reduce_on_plateau(factor=0.5, patience=0)])
    one, other = (after(tx, steps, value=1.0) for steps in (1, 3))
    both = put(one, other)
    assert floats(adaptax.learning_rate(both)) == {
        "generator": 0.5,
        "discriminator": 0.125,
    }
    changed = adaptax.set_learning_rate(both, {"discriminator": 1.0})
    assert type(changed) is type(both)
    assert floats(adaptax.learning_rate(changed)) == {
        "generator": 0.5,
        "discriminator": 1.0,
    }
    changed = adaptax.set_learning_rate(both, 0.25)
    assert set(floats(adaptax.learning_rate(changed)).values()) == {0.25}
    with pytest.raises(ValueError, match="no label 'critic'"):
        adaptax.set_learning_rate(both, {"critic": 1.0})
    with pytest.raises(ValueError, match="must be >= 0"):
        adaptax.set_learning_rate(both, {"generator": -0.1})


def floats(rates):
    return jax.tree.map(float, rates)


def test_containers_in_containers_are_read_as_dicts_of_dicts():
    one, other = (adaptax.adam(rate).init(PARAMS) for rate in (0.5, 0.25))
    nested = {"gan": Both(one, other), "encoders": [one, other], "step": jnp.ones(())}
    expected = {
        "gan": {"generator": 0.5, "discriminator": 0.25},
        "encoders": {0: 0.5, 1: 0.25},
    }
    assert floats(adaptax.learning_rate(nested)) == expected
    changed = adaptax.set_learning_rate(
        nested, {"gan": {"generator": 2.0}, "encoders": 1.0}
    )
    assert floats(adaptax.learning_rate(changed)) == {
        "gan": {"generator": 2.0, "discriminator": 0.25},
        "encoders": {0: 1.0, 1: 1.0},
    }


def test_one_optimizer_in_a_container_is_read_as_it_is():
    state = adaptax.adam(0.5).init(PARAMS)
    for container in (
        {"params": PARAMS, "opt_state": state, "step": 0},
        [state],
        Both(state, None),
        (jnp.zeros(()), (PARAMS, state)),
    ):
        assert rate_of(container) == 0.5
        assert rate_of(adaptax.set_learning_rate(container, 0.25)) == 0.25


def test_a_key_is_missing_where_the_rate_is_not_known():
    states = {
        "ours": adaptax.adam(0.5).init(PARAMS),
        "other": optax.adam(0.5).init(PARAMS),
    }
    assert floats(adaptax.learning_rate(states)) == {"ours": 0.5}


def test_a_named_chain_is_a_chain():
    plateau = adaptax.reduce_on_plateau(factor=0.5, patience=0)
    named = optax.named_chain(("way", adaptax.adam(0.5)), ("plateau", plateau))
    assert rate_of(after(named, 2, value=1.0)) == 0.25
    as_dict = dict(after(named, 2, value=1.0))  # as some checkpoints give it back
    assert rate_of(as_dict) == 0.25


UNKNOWN = {
    "a plateau": lambda: optax.chain(optax.adam(0.5), adaptax.reduce_on_plateau()),
    "an early stop": lambda: optax.chain(optax.sgd(0.5), adaptax.early_stop()),
    "a scheduled rate of Optax": lambda: optax.chain(
        optax.adam(optax.constant_schedule(0.5)), adaptax.cosine(1.0, 10)
    ),
    "a plateau of Optax": lambda: optax.chain(
        optax.adam(0.5), optax.contrib.reduce_on_plateau()
    ),
    "reject_increase": lambda: adaptax.reject_increase(optax.sgd(0.5)),
    "restore_best": lambda: adaptax.restore_best(optax.sgd(0.5)),
    "mechanic": lambda: adaptax.mechanic(optax.sgd(0.5)),
    "trac": lambda: adaptax.trac(optax.sgd(0.5)),
    "prodigy_distance": lambda: adaptax.prodigy_distance(optax.lion(0.5)),
    "groups": lambda: optax.chain(
        optax.partition({"x": optax.adam(0.5)}, {"a": "x", "b": "x"}),
        adaptax.reduce_on_plateau(),
    ),
}


@pytest.mark.parametrize("make", UNKNOWN.values(), ids=UNKNOWN)
def test_a_factor_of_a_rate_that_optax_does_not_keep_is_no_rate(make):
    state = make().init(PARAMS)
    with pytest.raises(ValueError, match=r"only a factor.*adaptax\.adam\(\["):
        adaptax.learning_rate(state)
    with pytest.raises(ValueError, match="no constant"):
        adaptax.set_learning_rate(state, 0.5)


CONTROLLERS = [
    entry for entry in ENTRIES if isinstance(entry.make(), adaptax.Controller)
]


@pytest.mark.parametrize("entry", CONTROLLERS, ids=lambda entry: entry.name)
def test_a_controller_behind_optax_is_a_rate_only_if_it_has_a_unit(entry):
    controller = entry.make()
    state = optax.chain(optax.scale_by_adam(), controller).init(PARAMS)
    alone = controller.init(PARAMS)
    assert adaptax.learning_rate(alone).dtype == jnp.float32
    if alone.has_unit():
        assert adaptax.learning_rate(state) == adaptax.learning_rate(alone)
    else:
        with pytest.raises(ValueError, match="only a factor"):
            adaptax.learning_rate(state)


def test_what_optax_keeps_of_a_rate_counts():
    inject = optax.inject_hyperparams(optax.adam)(learning_rate=0.5)
    plateau = adaptax.reduce_on_plateau(factor=0.5, patience=0)
    theirs = optax.contrib.reduce_on_plateau(factor=0.5, patience=1)
    for second in (plateau, theirs):
        chain = optax.chain(inject, second)
        assert rate_of(after(chain, 2, value=1.0)) == 0.25
    inside = optax.inject_hyperparams(
        lambda learning_rate: optax.chain(optax.sgd(learning_rate), plateau)
    )(learning_rate=0.5)
    assert rate_of(after(inside, 2, value=1.0)) == 0.25


def test_directions_in_groups_share_the_rate_behind_them():
    groups = {"x": optax.scale_by_adam(), "y": optax.identity()}
    directions = optax.partition(groups, {"a": "x", "b": "y"})
    assert rate_of(optax.chain(directions, halving(0.5)).init(PARAMS)) == 0.5


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_the_rate_that_was_set_is_read_also_behind_controllers(wrap):
    cuts = [
        adaptax.reduce_on_plateau(factor=0.1, patience=0, name=name) for name in "ab"
    ]
    tx = optax.chain(wrap(1e-2), *cuts, optax.contrib.reduce_on_plateau(patience=1))
    state = after(tx, 3, value=1.0)
    assert rate_of(state) < 2e-6
    state = adaptax.set_learning_rate(state, 1e-4)
    assert rate_of(state) == pytest.approx(1e-4)
    _, state = tx.update(GRADIENTS, state, PARAMS, value=0.0)
    assert rate_of(state) == pytest.approx(1e-4)


def test_a_controller_at_0_leaves_the_rate_that_was_set():
    tx = adaptax.gradient_descent([1.0, adaptax.reduce_on_plateau(patience=0)])
    state = jax.tree.map(jnp.zeros_like, tx.init(PARAMS))
    constant = adaptax.telemetry(adaptax.set_learning_rate(state, 0.5))
    assert float(constant["constant/learning_rate"]) == 0.5


def test_a_rate_that_is_set_is_also_the_one_to_go_back_to():
    tx = adaptax.reject_increase(adaptax.gradient_descent(0.5), decrease=0.5)
    state = tx.init(PARAMS)
    for value in (1.0, 2.0):  # goes back, and halves its scale
        _, state = tx.update(GRADIENTS, state, PARAMS, value=value)
    assert rate_of(state) == 0.25
    state = adaptax.set_learning_rate(state, 0.125)
    assert rate_of(state) == 0.125
    shown = adaptax.telemetry(state)
    for kept in ("", "saved/"):
        assert float(shown[f"{kept}constant/learning_rate"]) == 0.25
    groups = {"x": adaptax.adam(0.5), "y": adaptax.adam(0.5)}
    tx = adaptax.reject_increase(optax.partition(groups, {"a": "x", "b": "y"}))
    shown = adaptax.telemetry(adaptax.set_learning_rate(tx.init(PARAMS), {"y": 0.25}))
    rates = [
        float(one)
        for key, one in shown.items()
        if key.endswith("constant/learning_rate")
    ]
    assert sorted(rates) == [0.25, 0.25, 0.5, 0.5]


def test_a_parameter_called_learning_rate_is_no_rate():
    params = {"learning_rate": jnp.ones(3)}
    assert rate_of(after(adaptax.adam(0.25), 1, params)) == 0.25


def test_setting_the_rate_does_not_recompile():
    optimizer, traces = adaptax.adam(0.5), []

    @jax.jit
    def step(state):
        traces.append(1)
        return optimizer.update(GRADIENTS, state, PARAMS)

    _, state = step(optimizer.init(PARAMS))
    updates, _ = step(adaptax.set_learning_rate(state, 0.25))
    before, _ = step(state)
    assert len(traces) == 1
    np.testing.assert_allclose(updates["a"], before["a"] / 2, rtol=1e-6)


def test_the_rate_is_read_and_set_inside_jit_and_vmap():
    optimizer = adaptax.adam(0.5)

    @jax.jit
    @jax.vmap
    def run(rate):
        state = adaptax.set_learning_rate(optimizer.init(PARAMS), rate)
        _, state = optimizer.update(GRADIENTS, state, PARAMS)
        return adaptax.learning_rate(state), state

    rates = jnp.array([0.1, 0.2])
    read, states = run(rates)
    np.testing.assert_array_equal(read, rates)
    np.testing.assert_array_equal(adaptax.learning_rate(states), rates)
    set_outside = adaptax.set_learning_rate(states, 0.3)
    np.testing.assert_array_equal(
        adaptax.learning_rate(set_outside), np.full(2, 0.3, np.float32)
    )


class Network(nnx.Module):
    def __init__(self):
        self.dense = nnx.Linear(2, 3, rngs=nnx.Rngs(0))


def nnx_optimizer():
    plateau = adaptax.reduce_on_plateau(factor=0.5, patience=0)
    chain = optax.chain(adaptax.scale_by_adam(), adaptax.descend(0.5, plateau))
    network = Network()
    gradients = jax.tree.map(jnp.ones_like, nnx.state(network, nnx.Param))
    return plateau, network, nnx.Optimizer(network, chain, wrt=nnx.Param), gradients


def test_the_rate_of_an_nnx_optimizer_is_read_set_and_observed():
    plateau, network, optimizer, gradients = nnx_optimizer()
    optimizer.update(network, gradients, value=1.0)
    assert rate_of(optimizer) == rate_of(optimizer.opt_state) == 0.5
    optimizer.update(network, gradients, value=1.0)
    assert rate_of(optimizer) == 0.25
    changed = adaptax.set_learning_rate(optimizer.opt_state, 1.0)
    nnx.update(optimizer.opt_state, nnx.state(changed))
    assert rate_of(optimizer) == 1.0
    observed = plateau.observe(optimizer.opt_state, 2.0)
    nnx.update(optimizer.opt_state, nnx.state(observed))
    optimizer.update(network, gradients, value=0.5)
    assert rate_of(optimizer) == 0.5


def test_the_telemetry_of_an_nnx_optimizer_has_the_names_of_a_bare_one():
    _, network, optimizer, _ = nnx_optimizer()
    params = nnx.to_pure_dict(nnx.state(network, nnx.Param))
    bare = optimizer.tx.init(params)
    assert set(adaptax.telemetry(optimizer)) == set(adaptax.telemetry(bare))


def test_the_rate_of_a_linen_train_state_is_read():
    state = TrainState.create(
        apply_fn=None, params=PARAMS, tx=adaptax.adam(halving(0.5))
    )
    state = state.apply_gradients(grads=GRADIENTS).apply_gradients(grads=GRADIENTS)
    assert rate_of(state) == 0.25


def test_telemetry_lists_every_scalar_by_its_method():
    state = after(adaptax.monitor(adaptax.adam(0.5)), 2)
    values = adaptax.telemetry(state)
    assert float(values["constant/learning_rate"]) == 0.5
    assert int(values["adam/step"]) == 2
    assert float(values["monitor/gradient_norm"]) > 0
    assert all(jnp.ndim(value) == 0 for value in values.values())


def test_telemetry_escapes_slashes_in_keys():
    params = {"a/b": jnp.float32(1.0), "a": {"b~": jnp.float32(1.0)}}
    paths = set(adaptax.telemetry(adaptax.scale_by_momentum().init(params)))
    assert paths == {"momentum/velocity/a~1b", "momentum/velocity/a/b~0"}


def test_telemetry_works_inside_vmap():
    optimizer = adaptax.adam(0.5)
    states = jax.vmap(lambda scale: optimizer.init({"w": jnp.ones(3) * scale}))(
        jnp.arange(4.0)
    )
    values = jax.vmap(adaptax.telemetry)(states)
    assert values["constant/learning_rate"].shape == (4,)


def test_monitor_measures_norms_and_their_ratio():
    state = after(adaptax.monitor(adaptax.gradient_descent(0.5)), 1)
    size = np.sqrt(6 + 4)
    weights = np.sqrt(6 * 1 + 4 * 4)
    np.testing.assert_allclose(state.gradient_norm, size, rtol=1e-6)
    np.testing.assert_allclose(state.update_norm, size / 2, rtol=1e-6)
    np.testing.assert_allclose(state.parameter_norm, weights, rtol=1e-6)
    np.testing.assert_allclose(
        state.update_to_parameter_ratio, size / 2 / weights, rtol=1e-6
    )


def test_monitor_changes_no_update():
    plain, monitored = adaptax.adam(0.5), adaptax.monitor(adaptax.adam(0.5))
    expected, _ = plain.update(GRADIENTS, plain.init(PARAMS), PARAMS)
    updates, _ = monitored.update(GRADIENTS, monitored.init(PARAMS), PARAMS)
    jax.tree.map(np.testing.assert_array_equal, updates, expected)


def test_monitor_keeps_the_norm_before_one_that_is_not_finite():
    optimizer = adaptax.monitor(adaptax.gradient_descent(0.5))
    state = after(optimizer, 1)
    bad = {**GRADIENTS, "b": jnp.full(4, jnp.nan)}
    _, later = optimizer.update(bad, state, PARAMS)
    assert float(later.gradient_norm) == float(state.gradient_norm)
    assert float(later.update_norm) < float(state.update_norm)
    assert int(later.invalid) == 1


def test_monitor_gives_a_ratio_of_0_for_parameters_of_0():
    params = {"w": jnp.zeros(3)}
    state = after(adaptax.monitor(adaptax.gradient_descent(0.5)), 1, params)
    assert float(state.update_to_parameter_ratio) == 0


def test_monitor_squares_half_precision_in_float32():
    params = {"w": jnp.full(4, 1000.0, jnp.float16)}
    state = after(adaptax.monitor(adaptax.gradient_descent(0.5)), 1, params)
    assert float(state.parameter_norm) == 2000.0


def test_monitor_asks_for_the_parameters():
    optimizer = adaptax.monitor(adaptax.adam(0.1))
    with pytest.raises(ValueError, match=r"update\(grads, state, params\)"):
        optimizer.update(GRADIENTS, optimizer.init(PARAMS))
