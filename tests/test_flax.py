"""A Flax TrainState that hands the loss on, in the ways in which Flax is used."""

import subprocess
import sys
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.cases import CASES
from flax import linen, serialization
from flax.training import train_state

import adaptax
from adaptax.flax import TrainState

PARAMS = {"w": jnp.ones(2)}


class Network(linen.Module):
    @linen.compact
    def __call__(self, images, train=True):
        hidden = linen.Dense(8)(images.reshape(len(images), -1))
        hidden = linen.BatchNorm(use_running_average=not train)(hidden)
        return linen.Dense(3)(linen.relu(hidden))


class WithStatistics(TrainState):
    batch_stats: Any = None


NETWORK = Network()
IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(16, 4, 4)), jnp.float32)
LABELS = jnp.arange(16) % 3


def create(tx):
    variables = NETWORK.init(jax.random.key(0), IMAGES)
    return WithStatistics.create(
        apply_fn=NETWORK.apply,
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        tx=tx,
    )


def step(state):
    def loss(params):
        logits, changed = NETWORK.apply(
            {"params": params, "batch_stats": state.batch_stats},
            IMAGES,
            mutable=["batch_stats"],
        )
        each = optax.softmax_cross_entropy_with_integer_labels(logits, LABELS)
        return each.mean(), changed["batch_stats"]

    (value, batch_stats), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
    return state.apply_gradients(grads=grads, value=value, batch_stats=batch_stats)


def test_a_network_with_batch_statistics_is_trained_donated_and_saved():
    state = create(adaptax.adam([0.05, adaptax.reduce_on_plateau(patience=0)]))
    with jax.numpy_rank_promotion("allow"):
        traced = chex.assert_max_traces(step, n=1)
        compiled = jax.jit(traced, donate_argnums=0)
        saved = serialization.to_bytes(jax.device_get(state))
        state = compiled(compiled(state))
        stored = serialization.to_bytes(jax.device_get(state))
        state = compiled(state)
    assert int(state.step) == 3
    known = adaptax.telemetry(state)
    assert float(next(known[path] for path in known if path.endswith("/best"))) < 2
    assert np.any(jax.tree.leaves(state.batch_stats)[0])
    begun = create(state.tx)
    again = serialization.from_bytes(begun, stored)
    assert type(again) is WithStatistics
    with jax.numpy_rank_promotion("allow"):
        again = jax.jit(step)(again)  # Flax restores its counter with another type
    jax.tree.map(np.testing.assert_array_equal, again, state)
    first = serialization.from_bytes(begun, saved)
    jax.tree.map(np.testing.assert_array_equal, first.params, begun.params)


def test_without_extra_arguments_it_is_the_state_of_flax():
    tx = optax.adam(0.1)
    made = {"apply_fn": None, "params": PARAMS, "tx": tx}
    one, other = TrainState.create(**made), train_state.TrainState.create(**made)
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(2):
            one, other = (one.apply_gradients(grads=PARAMS) for one in (one, other))
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)
    assert one.tx is tx
    assert int(one.step) == 2


def test_parameters_that_gradients_overwrite_are_kept_apart():
    name = train_state.OVERWRITE_WITH_GRADIENT
    params = {"params": PARAMS, name: {"scale": jnp.ones(1)}}
    tx = adaptax.gradient_descent([0.5, adaptax.reduce_on_plateau()])
    state = TrainState.create(apply_fn=None, params=params, tx=tx)
    grads = {"params": PARAMS, name: {"scale": jnp.full(1, 3.0)}}
    state = state.apply_gradients(grads=grads, value=1.0)
    np.testing.assert_array_equal(state.params["params"]["w"], 0.5)
    np.testing.assert_array_equal(state.params[name]["scale"], 3.0)


def test_an_optimizer_without_extra_arguments_is_not_given_any():
    tx = adaptax.scale_by_adam()
    state = TrainState.create(apply_fn=None, params=PARAMS, tx=tx)
    assert int(state.apply_gradients(grads=PARAMS, value=1.0).step) == 1


@pytest.mark.parametrize("name", ["batch_stat", "param", "opt_states"])
def test_a_misspelt_field_is_refused(name):
    state = create(adaptax.adam(0.1))
    with pytest.raises(
        TypeError, match=f"{name!r}, which is not a field.*Did you mean"
    ):
        state.apply_gradients(grads=state.params, **{name: 1})


@pytest.mark.parametrize(
    "case", [case for case in CASES if "value" in case.needs], ids=str
)
def test_what_misses_the_loss_names_the_state_that_hands_it_on(case):
    state = train_state.TrainState.create(
        apply_fn=None, params=PARAMS, tx=case.optimizer()
    )
    with pytest.raises(TypeError, match=r"`value`.*adaptax\.flax\.TrainState"):
        state.apply_gradients(grads=PARAMS)


def test_flax_is_imported_when_it_is_used_and_not_before():
    code = (
        "import sys, adaptax; assert 'flax' not in sys.modules; "
        "assert adaptax.flax.TrainState; assert 'flax' in sys.modules; "
        "import adaptax.flax as again; assert again is adaptax.flax"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'flux'"):
        _ = adaptax.flux
