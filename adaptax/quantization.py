"""Quantized state: a byte for a number, in blocks that have a scale of their own.

A block of B numbers x with the largest magnitude s is kept as codes q and s:

    if no x is negative   x̃ = s (q / 255)⁴,          q = 0 … 255
    otherwise             x̃ = s sign(q) (q / 127)²,  q = −127 … 127

so that small numbers keep their relative precision: from one code to the next is 1.6 %
at the largest number, and the smallest is 2·10⁻¹⁰ or 6·10⁻⁵ of it. A positive number of
a block without negative ones never becomes 0, for an optimizer divides by its root.

Between two codes y is rounded at random, up with the probability of its fraction: to
the nearest, a moving average that changes by 0.1 % in a step would stand still for
ever. What is on a code stays there. The random bits are a hash of the step and place.

Source: Dettmers, Lewis, Shleifer & Zettlemoyer (2022), "8-bit Optimizers via Block-wise
Quantization", ICLR, for blocks, and for leaving small leaves alone. Powers in place of
its table of codes, and rounding at random, are ours. Optax has no such method.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptax import checks, counters
from adaptax.checks import require
from adaptax.leaves import computing_dtype, dtype_of, is_trained

_EXACT = 0.01  # how near a code counts as on it


class Quantized(NamedTuple):
    """An array as codes: int8, shaped like it; and scales (blocks,), float32 at least.

    Blocks follow each other in C order. A scale is negative where its block has
    negative numbers; the codes of a block without any are stored less 128.
    """

    codes: Any
    scales: Any

    def array(self, block: int) -> jax.Array:
        """Give the array x̃ that it stands for, B numbers to a block."""
        wide = self.scales.dtype
        codes = _in_blocks(self.codes, block).astype(wide)
        signed, size = self.scales[:, None] < 0, jnp.abs(self.scales)[:, None]
        share = jnp.where(signed, codes / 127, (codes + 128) / 255)
        square = share * share
        values = size * jnp.where(signed, jnp.sign(share) * square, square * square)
        return _like(values, self.codes)


class QuantizedState(NamedTuple):
    """The state of `quantized`.

    In `inner_state` a `Quantized` stands for every array that is kept as codes; `step`
    counts the updates, for rounding.
    """

    step: jax.Array
    inner_state: optax.OptState


def quantized(
    inner: optax.GradientTransformation, block: int = 256, *, smallest: int = 4096
) -> optax.GradientTransformationExtraArgs:
    """Keep the state of an optimizer in 8 bits, 1 + 4 / B bytes for a number.

    What is quantized are arrays of the state that are shaped like a parameter, such as
    moments: Adam's take 2.03 bytes a parameter instead of 8. Put it around the
    direction and not around a wrapper that keeps parameters in its state, for these
    need all their bits.

    Args:
        inner: The optimizer, of adaptax or of Optax.
        block: B >= 1, the numbers to a scale. Static.
        smallest: Leaves of fewer numbers stay as they are. Static.

    Raises:
        ValueError: At `init`, if parameters to evaluate with are in the inner state.

    >>> import jax, jax.numpy as jnp
    >>> import adaptax
    >>> state = quantized(adaptax.scale_by_adam()).init(jnp.zeros((512, 512)))
    >>> sum(leaf.nbytes for leaf in jax.tree.leaves(state)) / 512**2
    2.03...
    """
    checks.length("block", block)
    checks.length("smallest", smallest)
    inner = optax.with_extra_args_support(inner)

    def init(params):
        leaves = jax.tree.leaves(params)
        shapes = {jnp.shape(leaf) for leaf in leaves if is_trained(leaf)}
        state = inner.init(params)
        nodes = jax.tree.leaves(state, is_leaf=_keeps_parameters)
        require(
            not any(map(_keeps_parameters, nodes)),
            "inner must not keep the parameters to evaluate with in its state, which "
            "need all their bits. Put quantized around its own inner optimizer.",
        )

        def leaf(array):
            shape = jnp.shape(array)
            large = shape != () and math.prod(shape) >= smallest
            moment = shape in shapes and jnp.issubdtype(dtype_of(array), jnp.floating)
            if not large or not moment:
                return array
            found = quantize(array, block, counters.zero())
            # The sum is sharded as the array is; a reshaped array may not be.
            codes = jnp.zeros_like(array, jnp.int8) + found.codes
            return found._replace(codes=codes)

        return QuantizedState(counters.zero(), jax.tree.map(leaf, state))

    def update(updates, state, params=None, **extra_args):
        step = counters.increment(state.step)
        old = jax.tree.map(
            lambda leaf: leaf.array(block) if _is_quantized(leaf) else leaf,
            state.inner_state,
            is_leaf=_is_quantized,
        )
        updates, new = inner.update(updates, old, params, **extra_args)
        kept = jax.tree.map(
            lambda was, now: quantize(now, block, step) if _is_quantized(was) else now,
            state.inner_state,
            new,
            is_leaf=_is_quantized,
        )
        return updates, QuantizedState(step, kept)

    return optax.GradientTransformationExtraArgs(init, update)


def quantize(array: jax.Array, block: int, step: jax.Array) -> Quantized:
    """Round an array to codes. A number that is not finite becomes 0.

    Args:
        array: Of any shape and real floating dtype.
        block: B >= 1.
        step: A counter, for the random bits.
    """
    numbers = _in_blocks(array, block).astype(computing_dtype(dtype_of(array)))
    numbers = jnp.where(jnp.isfinite(numbers), numbers, 0)
    sizes, signed = jnp.abs(numbers).max(axis=1), (numbers < 0).any(axis=1)
    size, plain = jnp.where(sizes > 0, sizes, 1)[:, None], ~signed[:, None]
    root = jnp.sqrt(jnp.abs(numbers) / size)
    fine = jnp.where(plain, 255 * jnp.sqrt(root), 127 * root)
    codes = jnp.floor(fine + _random(fine.shape, step).astype(fine.dtype))
    codes = jnp.maximum(codes, (plain & (numbers > 0)).astype(codes.dtype))
    codes = jnp.where(plain, codes - 128, jnp.sign(numbers) * codes)
    scales = jnp.where(signed, -sizes, sizes)
    return Quantized(_like(codes.astype(jnp.int8), array), scales)


def _in_blocks(array: jax.Array, block: int) -> jax.Array:
    """Give its elements in rows of a block, the last one filled up with zeros."""
    rows = -(-array.size // block)
    flat = jnp.pad(array.ravel(), (0, rows * block - array.size))
    return flat.reshape(rows, block)


def _like(rows: jax.Array, array: jax.Array) -> jax.Array:
    return rows.ravel()[: array.size].reshape(array.shape)


def _random(shape: tuple[int, ...], step: jax.Array) -> jax.Array:
    """Give numbers in [0.01, 0.99], a hash of the step and the place."""
    rows = jax.lax.broadcasted_iota(jnp.uint32, shape, 0)
    columns = jax.lax.broadcasted_iota(jnp.uint32, shape, 1)
    bits = rows * jnp.uint32(shape[1]) + columns
    bits = bits * jnp.uint32(0x9E3779B1) + step.astype(jnp.uint32) * jnp.uint32(
        0x85EBCA77
    )
    bits = (bits ^ (bits >> 15)) * jnp.uint32(0x2C1B3C6D)
    bits = (bits ^ (bits >> 12)) * jnp.uint32(0x297A2D39)
    bits = bits ^ (bits >> 15)
    unit = (bits >> 8).astype(jnp.float32) * 2.0**-24
    return _EXACT + (1 - 2 * _EXACT) * unit


def _is_quantized(node: Any) -> bool:
    return isinstance(node, Quantized)


def _keeps_parameters(node: Any) -> bool:
    return hasattr(node, "evaluated")
