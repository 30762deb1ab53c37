"""Shuffled batches without a stored order: a keyed permutation of 0 … n−1.

Round by round, an index x and its partner x′ change places if a coin says so, and both
of them see the same coin:

    x′ = (k_r − x) mod n
    x ← x′  if  coin_r(max(x, x′))  else  x

So the place of one example in an epoch is computed from the epoch's key alone: a member
of a population keeps no order of its own, and any batch can be drawn at any time.

Source: Hoang, Morris & Rogaway (2012), "An Enciphering Scheme Based on a Card Shuffle",
CRYPTO, Figure 1 (swap-or-not). The coins here are the bits of a hash that mixes well
(the finalizer of MurmurHash3), not of a cipher.
"""

import jax
import jax.numpy as jnp

ROUNDS = 24


def permuted(indices: jax.Array, size: int, key: jax.Array) -> jax.Array:
    """Send indices through the permutation of 0 … size − 1 that a key stands for.

    Args:
        indices: int32 of any shape, each in [0, size).
        size: n in [1, 2³¹).
        key: Another key is another permutation.
    """
    if size == 1:  # jaxlib 0.12 cannot compile what follows for one index
        return jnp.zeros_like(indices)
    words = jax.random.bits(key, (2, ROUNDS), jnp.uint32)
    size_word = jnp.uint32(size)
    offsets, salts = words[0] % size_word, words[1]

    def play_round(turn, place):
        offset = offsets[turn]
        partner = jnp.where(offset >= place, offset - place, offset + size_word - place)
        heads = _mixed(jnp.maximum(place, partner) ^ salts[turn]) >> 31 == 1
        return jnp.where(heads, partner, place)

    # A loop, since jax 0.12 takes minutes to compile unrolled rounds under vmap.
    place = jax.lax.fori_loop(0, ROUNDS, play_round, indices.astype(jnp.uint32))
    return place.astype(jnp.int32)


def batch_indices(
    step: jax.Array, size: int, batch_size: int, key: jax.Array
) -> jax.Array:
    """Return the examples of a step: each at most once an epoch, then shuffled again.

    Args:
        step: The step from 0, an int32 scalar.
        size: The number of examples.
        batch_size: b <= size; the last size mod b examples of an epoch are left out,
            other ones each time.
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
