"""Block codes: arrays of one byte per number, in blocks with a scale each.

The codes, their precision and the dither are those of `quantized`.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from adaptax._core.leaves import computing_dtype
from adaptax._core.meshes import by_compiler


class Quantized(NamedTuple):
    """An array as int8 codes of the same shape, and the scales of its blocks.

    Blocks divide the last axis if its length is a multiple of B, so that they are
    sharded like the array; otherwise they divide the flattened array. A scale has the
    array's dtype, and is negative if its block has negative numbers. In blocks without
    any, 128 is subtracted from the codes.
    """

    codes: Any
    scales: Any

    def array(self) -> jax.Array:
        """Return the array x̃."""
        return _dequantized(self)


@functools.partial(jax.jit, static_argnums=1)
def quantize(array: jax.Array, block: int, step: Any) -> Quantized:
    """Quantize an array of finite numbers.

    Args:
        array: An array of any shape and real floating dtype, not empty.
        block: B >= 1, the largest number of elements per scale.
        step: t, a counter.
    """

    def rounded(array, step):
        numbers = _in_blocks(array, _shape_in_blocks(array.shape, block))
        sizes = jnp.abs(numbers)
        scales, signed = sizes.max(axis=-1), (numbers < 0).any(axis=-1)
        coded = functools.partial(_codes, step=step, dtype=computing_dtype(array.dtype))
        codes = coded(numbers, scales[..., None], signed[..., None])
        scales = jnp.where(signed, -scales, scales)
        return Quantized(_as_whole(codes, array.shape), scales)

    def spread(spec):
        along_last_axis = array.ndim > 0 and array.shape[-1] % block == 0
        rows = tuple(spec)[:-1] if along_last_axis else ()
        return Quantized(spec, PartitionSpec(*rows, None))

    return by_compiler(rounded, array, step, out=spread)


def _codes(numbers, largest, signed, step, dtype) -> jax.Array:
    margin = max(2.0**-12, 64 * float(jnp.finfo(numbers.dtype).eps))
    sizes, largest = jnp.abs(numbers).astype(dtype), largest.astype(dtype)
    normal = largest >= jnp.finfo(dtype).tiny
    inverse = jnp.where(normal, 1 / jnp.where(normal, largest, 1), 0)
    share = jax.lax.stop_gradient(sizes * inverse)  # a root has no derivative at 0
    root, levels = jnp.sqrt(share), _levels(signed).astype(dtype)
    fine = levels * jnp.where(signed, root, jnp.sqrt(root))
    below = jnp.minimum(jnp.floor(fine), levels - 1)
    low, high = (_power(code / levels, signed) for code in (below, below + 1))
    # A number on a code, up to float rounding, must stay on it.
    fraction = margin + (1 - 2 * margin) * _dither(share.shape, step).astype(dtype)
    codes = below + (share - low > fraction * (high - low)).astype(dtype)
    codes = jnp.maximum(codes, (~signed & (share > 0)).astype(dtype))
    codes = jnp.where(signed, jnp.sign(numbers).astype(dtype) * codes, codes - 128)
    return codes.astype(jnp.int8)


@jax.jit
def _dequantized(kept: Quantized) -> jax.Array:
    return by_compiler(_numbers, *kept)


def _numbers(codes: jax.Array, scales: jax.Array) -> jax.Array:
    shape_of_array = codes.shape
    along_last_axis = scales.ndim == codes.ndim
    numbers = codes.shape[-1] if along_last_axis else codes.size
    shape = (*scales.shape, -(-numbers // scales.shape[-1]))
    dtype, wide = scales.dtype, computing_dtype(scales.dtype)
    codes, scales = (
        _in_blocks(codes, shape).astype(wide),
        scales.astype(wide)[..., None],
    )
    signed = scales < 0
    share = jnp.where(signed, codes, codes + 128) / _levels(signed).astype(wide)
    values = jnp.abs(scales) * jnp.sign(share) * _power(share, signed)
    return _as_whole(values, shape_of_array).astype(dtype)


def _levels(signed: jax.Array) -> jax.Array:
    return jnp.where(signed, 127, 255)


def _power(share: jax.Array, signed: jax.Array) -> jax.Array:
    square = share * share
    return jnp.where(signed, square, square * square)


def _shape_in_blocks(shape: tuple[int, ...], block: int) -> tuple[int, ...]:
    """Return the shape of an array in blocks of equal length, along the last axis."""
    if shape and shape[-1] % block == 0:
        return (*shape[:-1], shape[-1] // block, block)
    blocks = -(-math.prod(shape) // block)
    return blocks, -(-math.prod(shape) // blocks)


def _in_blocks(array: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Return the elements in blocks, the last block padded with zeros."""
    missing = math.prod(shape) - array.size
    if missing:
        array = jnp.pad(array.ravel(), (0, missing))
    return array.reshape(shape)


def _as_whole(blocks: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    size = math.prod(shape)
    if blocks.size > size:
        blocks = blocks.ravel()[:size]
    return blocks.reshape(shape)


_INCREMENTS = (0x9E3779B1, 0xC2B2AE35, 0x85EBCA6B, 0x27D4EB2F)
"""φ, φ₁, φ₂, … times 2³²: per step, and per position, from the last axis on."""


def _dither(shape: tuple[int, ...], step: Any) -> jax.Array:
    """Return u in [0, 1) for the elements of an array in blocks."""
    phase = jnp.asarray(step).astype(jnp.uint32) * jnp.uint32(_INCREMENTS[0])
    for axis in range(len(shape)):
        place = jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
        phase = phase + place * jnp.uint32(_INCREMENTS[1 + (len(shape) - 1 - axis) % 3])
    return (phase >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)
