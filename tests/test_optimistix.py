"""Optimistix runs every optimizer of the catalogue that needs no extra argument."""

import jax.numpy as jnp
import pytest

import adaptax
from adaptax.catalog import ENTRIES

optimistix = pytest.importorskip("optimistix")

PLAIN = [
    entry
    for entry in ENTRIES
    if entry.family == "optimizer" and entry.needs <= {"params"}
]


def minimum(optimizer, steps):
    return optimistix.minimise(
        lambda params, _: jnp.sum((params - 1.0) ** 2),
        optimistix.OptaxMinimiser(optimizer, rtol=1e-6, atol=1e-6),
        jnp.zeros(2),
        max_steps=steps,
        throw=False,
    ).value


@pytest.mark.parametrize("entry", PLAIN, ids=lambda entry: entry.name)
def test_it_runs_every_optimizer(entry):
    assert jnp.all(jnp.isfinite(minimum(entry.make(), 8)))


def test_it_finds_the_minimum():
    rate = [0.1, adaptax.cosine(1.0, 400), adaptax.constant(1.0)]
    found = minimum(adaptax.adam(rate), 400)
    assert jnp.allclose(found, 1.0, atol=1e-2)
