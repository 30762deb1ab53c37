"""Shuffled batches: a permutation for any size, uniform and new for each epoch."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adaptax.tuning.trials.shuffling import ROUNDS, batch_indices, permuted

SIZES = (1, 2, 3, 4, 5, 7, 8, 31, 64, 97, 100, 1000, 4099)


@partial(jax.jit, static_argnums=0)
def orders(size, keys):
    """Return a permutation for each key."""
    return jax.vmap(lambda key: permuted(jnp.arange(size), size, key))(keys)


@partial(jax.jit, static_argnums=(1, 2))
def batches(steps, size, batch_size, key):
    return jax.vmap(lambda step: batch_indices(step, size, batch_size, key))(steps)


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


@pytest.mark.parametrize("size", SIZES)
def test_every_index_is_hit_exactly_once(size):
    for order in np.asarray(orders(size, keys(5))):
        np.testing.assert_array_equal(np.sort(order), np.arange(size))


def test_indices_of_a_size_near_the_limit_stay_within_and_apart():
    size = 2**31 - 1
    indices = jnp.concatenate([jnp.arange(500), size - 1 - jnp.arange(500)])
    found = np.asarray(permuted(indices, size, jax.random.key(0)))
    assert found.dtype == np.int32
    assert found.min() >= 0
    assert found.max() < size
    assert len(set(found.tolist())) == 1000
    assert found.std() > 0.25 * size  # 0.289 where they are spread evenly


def test_a_permutation_equals_the_published_algorithm_in_plain_python():
    size, key = 37, jax.random.key(5)
    words = np.asarray(jax.random.bits(key, (2, ROUNDS), jnp.uint32)).tolist()

    def murmur_finalizer(word):
        word = (word ^ (word >> 16)) * 0x85EBCA6B % 2**32
        word = (word ^ (word >> 13)) * 0xC2B2AE35 % 2**32
        return word ^ (word >> 16)

    expected = []
    for place in range(size):
        for offset, salt in zip(*words, strict=True):
            partner = (offset % size - place) % size
            if murmur_finalizer(max(place, partner) ^ salt) >= 2**31:
                place = partner
        expected.append(place)
    found = permuted(jnp.arange(size), size, key)
    np.testing.assert_array_equal(found, np.array(expected))


@pytest.mark.parametrize("size", [5, 16, 50])
def test_an_index_goes_to_each_place_equally_often(size):
    count = 200 * size
    found = np.asarray(orders(size, keys(count, seed=1)))
    for index in (0, size // 2, size - 1):
        hits = np.bincount(found[:, index], minlength=size)
        # χ² of size − 1 degrees of freedom: mean d, variance 2d; 4 deviations.
        degrees = size - 1
        chi_square = ((hits - 200) ** 2 / 200).sum()
        assert abs(chi_square - degrees) < 4 * (2 * degrees) ** 0.5


@pytest.mark.parametrize("size", [2, 3, 4])
def test_each_order_of_a_few_is_equally_likely(size):
    number = math.factorial(size)
    found = np.asarray(orders(size, keys(300 * number, seed=2)))
    _, counts = np.unique(found, axis=0, return_counts=True)
    assert len(counts) == number
    degrees = number - 1
    chi_square = ((counts - 300) ** 2 / 300).sum()
    assert chi_square < degrees + 4 * (2 * degrees) ** 0.5


def test_different_keys_give_orders_that_have_nothing_in_common():
    found = np.asarray(orders(1000, keys(6, seed=3)))
    for first in range(6):
        for second in range(first):
            # In common, two random orders have 1 place on average.
            assert (found[first] == found[second]).sum() < 10
            assert abs(np.corrcoef(found[first], found[second])[0, 1]) < 0.15


@pytest.mark.parametrize(("size", "batch_size"), [(12, 4), (13, 4), (7, 7), (9, 1)])
def test_an_epoch_shows_each_example_at_most_once(size, batch_size):
    steps = size // batch_size
    found = np.asarray(batches(jnp.arange(3 * steps), size, batch_size, keys(1)[0]))
    assert found.shape == (3 * steps, batch_size)
    epochs = found.reshape(3, -1)
    for epoch in epochs:
        assert len(set(epoch.tolist())) == steps * batch_size
        assert set(epoch.tolist()) <= set(range(size))
    assert (epochs[0] != epochs[1]).any()
    assert (epochs[1] != epochs[2]).any()


def test_the_examples_that_an_epoch_leaves_out_change():
    found = np.asarray(batches(jnp.arange(20), 13, 12, keys(1)[0]))
    left_out = {(set(range(13)) - set(epoch)).pop() for epoch in found.tolist()}
    assert len(left_out) > 5


def test_equal_keys_draw_equal_batches_and_others_do_not():
    one, other = keys(2)
    steps = jnp.arange(4)
    first = np.asarray(batches(steps, 100, 10, one))
    np.testing.assert_array_equal(first, batches(steps, 100, 10, one))
    assert (first != np.asarray(batches(steps, 100, 10, other))).any(axis=1).all()
