"""Shuffled batches without a stored order: a keyed permutation of 0 … n−1.

In each round r, an index x and its partner x′ are swapped or not, by a pseudorandom bit
that depends on both in the same way:

    x′ = (k_r − x) mod n
    x ← x′  if  coin_r(max(x, x′))  else  x

So the position of an example in an epoch follows from the epoch's key: a member of a
population stores no order, and any batch can be drawn at any time.

Source: Hoang, Morris & Rogaway (2012), "An Enciphering Scheme Based on a Card Shuffle",
CRYPTO, Figure 1 (swap-or-not). The coins are the bits of a good hash (the finalizer of
MurmurHash3), not of a cipher.
"""

import jax
import jax.numpy as jnp

ROUNDS = 24


def permuted(indices: jax.Array, size: int, key: jax.Array) -> jax.Array:
    """Apply the permutation of 0 … size − 1 that a key determines to indices.

    Args:
        indices: int32 of any shape, each in [0, size).
        size: n in [1, 2³¹).
        key: The key of the permutation.
    """
    if size == 1:  # jaxlib 0.12 cannot compile the loop below for one index
        return jnp.zeros_like(indices)
    words = jax.random.bits(key, (2, ROUNDS), jnp.uint32)
    size_word = jnp.uint32(size)
    offsets, salts = words[0] % size_word, words[1]

    def play_round(index, place):
        offset = offsets[index]
        partner = jnp.where(offset >= place, offset - place, offset + size_word - place)
        heads = _mixed(jnp.maximum(place, partner) ^ salts[index]) >> 31 == 1
        return jnp.where(heads, partner, place)

    # A loop, since jax 0.12 takes minutes to compile unrolled rounds under vmap.
    place = jax.lax.fori_loop(0, ROUNDS, play_round, indices.astype(jnp.uint32))
    return place.astype(jnp.int32)


def batch_indices(
    step: jax.Array, size: int, batch_size: int, key: jax.Array
) -> jax.Array:
    """Return the examples of a step, with each example at most once in an epoch.

    Args:
        step: The step from 0, an int32 scalar.
        size: The number of examples.
        batch_size: b <= size. In each epoch, size mod b other examples are left out.
        key: The run's key.

    Returns:
        int32 of shape (batch_size,).
    """
    steps_per_epoch = size // batch_size
    epoch, position = step // steps_per_epoch, step % steps_per_epoch
    places = position * batch_size + jnp.arange(batch_size, dtype=jnp.int32)
    return permuted(places, size, jax.random.fold_in(key, epoch))


def _mixed(word: jax.Array) -> jax.Array:
    word = (word ^ (word >> 16)) * jnp.uint32(0x85EBCA6B)
    word = (word ^ (word >> 13)) * jnp.uint32(0xC2B2AE35)
    return word ^ (word >> 16)
