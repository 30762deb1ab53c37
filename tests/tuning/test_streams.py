"""Streams: what they may be, the batches that they give, and their mistakes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_digests import OPTIONS, TOOLS, squares

import adaptax

BATCHES = np.random.default_rng(0).uniform(1, 2, (7, 4, 3)).astype(np.float32)


def from_step(start):
    """Return the batches of a list from a step on."""
    for step in itertools.count(start):
        yield BATCHES[step % len(BATCHES)]


class Loader:
    """What can be iterated again, and counts the batches that it has given."""

    def __init__(self, batches=BATCHES):
        self.batches, self.given = batches, 0

    def __iter__(self):
        for batch in self.batches:
            self.given += 1
            yield batch


def made(data, loss=squares, **options):
    return adaptax.trial(
        lambda key: jax.random.normal(key, (3,), jnp.float32),
        loss,
        lambda hparams: adaptax.gradient_descent(hparams["learning_rate"]),
        data,
        **options,
    )


def swept(data, steps=9, **options):
    space = {"learning_rate": [0.01, 0.1]}
    trial = made(adaptax.stream(data), **options)
    return adaptax.sweep(trial, space, num_steps=steps, **OPTIONS)


def expected_losses(rates, batches):
    """Train the members of a sweep by a Python loop."""
    found = []
    for rate in rates:
        w = np.array(
            made(BATCHES[0]).init({"learning_rate": rate}, member_key()).params
        )
        losses = []
        for batch in batches:
            losses.append(np.mean(batch @ w**2))
            w = w - rate * 2 * w * batch.mean(axis=0)
        found.append(losses)
    return np.array(found)


def member_key():
    return jax.random.fold_in(jax.random.key(0), 0)


@pytest.mark.parametrize(
    "batches", [from_step, list(BATCHES), Loader(), BATCHES], ids=lambda x: str(type(x))
)
def test_step_i_of_every_member_has_batch_i(batches):
    found = swept(batches)
    seen = [BATCHES[step % 7] for step in range(9)]
    expected = expected_losses([0.01, 0.1], seen)
    np.testing.assert_allclose(found.losses[:, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("tool", TOOLS)
def test_every_tool_trains_on_a_stream(tool):
    loader = Loader()
    result = TOOLS[tool](made(adaptax.stream(loader)), **OPTIONS)
    losses = next(
        array for name, array in result.contents()[0].items() if "losses" in name
    )
    assert np.isfinite(losses).any()
    assert loader.given >= 9
