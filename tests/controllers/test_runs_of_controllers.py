"""Whole runs with every controller that follows a loss: mapped, resumed, wrapped."""

import functools
import io

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import adaptax
from adaptax import catalog

CURVATURE = np.linspace(0.1, 1.0, 4, dtype=np.float32)
ENTRIES = {
    entry.name: entry
    for entry in catalog.ENTRIES
    if isinstance(entry.make(), adaptax.Controller)
}
every_controller = pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)


def optimizer_of(entry, rate):
    return optax.with_extra_args_support(
        adaptax.momentum(optax.chain(adaptax.constant(rate), entry.make()), b=0.5)
    )


def noisy_loss(w, key):
    # A sum of squares: where large terms cancel, a rate that is proportional to the
    # loss would be compared by their roundings.
    distance = w - jax.random.normal(key, (4,))
    return jnp.sum(CURVATURE * distance * distance) / 2


def start(entry, rate, seed):
    key = jax.random.fold_in(jax.random.key(7), seed)
    w = jax.random.normal(key, (4,))
    return w, optimizer_of(entry, rate).init(w), key


def trained(entry, rate, carry, steps):
    """Train on; give what a run carries, and the rate and the loss of each step."""
    optimizer = optimizer_of(entry, rate)

    def step(carry, _):
        w, state, key = carry
        key, now = jax.random.split(key)
        value, gradient = jax.value_and_grad(noisy_loss)(w, now)
        extra_args = {
            "value": value,
            "grad": gradient,
            "value_fn": lambda w: noisy_loss(w, now),
        }
        update, state = optimizer.update(gradient, state, w, **extra_args)
        w = w + update
        return (w, state, key), (adaptax.learning_rate(state), value)

    return jax.lax.scan(step, carry, length=steps)


@functools.cache
def compiled(entry_name):
    entry = ENTRIES[entry_name]

    def run(rate, seed):
        return trained(entry, rate, start(entry, rate, seed), 40)

    return jax.jit(run)


MEMBERS = [(rate, seed) for rate in np.geomspace(0.01, 0.5, 8) for seed in range(8)]


@every_controller
def test_64_members_are_64_separate_runs_on_one_device_and_on_8(entry):
    rates, seeds = (np.asarray(column) for column in zip(*MEMBERS, strict=True))
    rates, run = rates.astype(np.float32), compiled(entry.name)
    alone = [run(*member)[1] for member in zip(rates, seeds, strict=True)]
    applied, losses = map(np.stack, zip(*alone, strict=True))
    spread = NamedSharding(Mesh(np.asarray(jax.devices()), "x"), PartitionSpec("x"))
    together = jax.jit(jax.vmap(run))
    for place in (jax.devices()[0], spread):
        members = jax.device_put((rates, seeds), place)
        _, (batch_applied, batch_losses) = together(*members)
        np.testing.assert_allclose(batch_applied, applied, 1e-4)
        np.testing.assert_allclose(batch_losses, losses, 1e-3, 1e-4)


@every_controller
def test_a_run_that_is_saved_and_restored_decides_bitwise_alike(entry):
    half = jax.jit(lambda carry: trained(entry, 0.2, carry, 20))
    first = start(entry, 0.2, 3)
    w, state, key = half(first)[0]
    leaves, structure = jax.tree.flatten((w, state))
    file = io.BytesIO()
    np.savez(file, *leaves)
    file.seek(0)
    loaded = structure.unflatten(map(jnp.asarray, np.load(file).values()))
    _, expected = half((w, state, key))
    _, resumed = half((*loaded, key))
    jax.tree.map(np.testing.assert_array_equal, resumed, expected)


@pytest.mark.parametrize(
    # A group cannot search along a line: the loss needs the parameters of all groups.
    "entry",
    [entry for entry in ENTRIES.values() if "value_fn" not in entry.needs],
    ids=lambda entry: entry.name,
)
def test_in_each_group_of_a_partition_it_decides_as_if_alone(entry):
    rates = {"slow": 0.05, "fast": 0.4}
    groups = {label: optimizer_of(entry, rate) for label, rate in rates.items()}
    optimizer = optax.partition(groups, {"a": "slow", "b": "fast"})
    params = {"a": jnp.ones(4), "b": jnp.full(4, 2.0)}
    state = optimizer.init(params)
    alone = {
        x: groups[y].init({x: params[x]}) for x, y in zip("ab", rates, strict=True)
    }
    labels = dict(zip("ab", rates, strict=True))
    for step in range(6):
        value = 1 + 0.5**step
        updates, state = optimizer.update(params, state, params, value=value)
        for x, label in labels.items():
            one = {x: params[x]}
            update, alone[x] = groups[label].update(one, alone[x], one, value=value)
            np.testing.assert_allclose(updates[x], update[x], rtol=1e-6)
