"""Quantized state: a byte for a number, in blocks that have a scale of their own.

A block of B numbers x with the largest magnitude s is kept as codes q and s:

    if no x is negative   x̃ = s (q / 255)⁴,          q = 0 … 255
    otherwise             x̃ = s sign(q) (q / 127)²,  q = −127 … 127

so that small numbers keep their relative precision: from one code to the next is 1.6 %
at the largest number, and the smallest is 2·10⁻¹⁰ or 6·10⁻⁵ of it. A positive number of
a block without negative ones never becomes 0, for an optimizer divides by its root.

Between two codes x is rounded by a dither, at step t and place (i, j) of the blocks

    up where   (|x| − below) / (above − below) > u,     u = (t φ + i φ₁ + j φ₂) mod 1

which runs evenly through all fractions as the steps go by, φ being the golden ratio: in
the mean over them, x̃ is x. To the nearest, a moving average that changes by 0.1 % in a
step would stand still for ever. What is on a code stays there.

Source: Dettmers, Lewis, Shleifer & Zettlemoyer (2022), "8-bit Optimizers via Block-wise
Quantization", ICLR, for blocks, and for leaving small leaves alone. Powers in place of
its table of codes, and the dither, are ours. Optax has no such method.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

from adaptax._core import checks, counters
from adaptax._core.guards import guarded
from adaptax._core.leaves import computing_dtype, is_complex, is_trained
from adaptax._core.meshes import by_compiler
from adaptax._core.states import asked
from adaptax._core.words import translating


class Quantized(NamedTuple):
    """An array as codes: int8, shaped like it; and the scales of its blocks.

    Blocks lie along the last axis if it is a multiple of them, so that they are sharded
    as the array is, else along the whole array. A scale is in the array's dtype, and
    negative where its block has negative numbers; the codes of a block without any are
    stored less 128.
    """

    codes: Any
    scales: Any

    def array(self) -> jax.Array:
        """Return the array x̃ that it stands for."""
        return _dequantized(self)


class QuantizedState(NamedTuple):
    """The state of `quantized`.

    In `inner_state` a `Quantized` stands for every array that is kept as codes; `step`
    counts the updates, for rounding.
    """

    step: jax.Array
    inner_state: optax.OptState


@translating
def quantized(
    inner: optax.GradientTransformation, block: int = 256, *, smallest: int = 4096
) -> optax.GradientTransformationExtraArgs:
    """Keep the state of an optimizer in 8 bits, 1 + 4 / B bytes for a number.

    What is quantized are arrays of the state that are shaped like the parameter whose
    path they have, such as moments: Adam's take 2.03 bytes a parameter instead of 8.
    Complex ones stay as they are; second moments are real for complex parameters too.
    A state with parameters to evaluate with, such as that of `schedule_free`, stays as
    it is, for these need all their bits: put `quantized` around its inner optimizer.
    Nor put it around what keeps where the parameters started, as `dog` does. A number
    that is not finite does not enter the state: what was there before stays.

    Args:
        inner: The optimizer, of adaptax or of Optax.
        block: B >= 1, the numbers to a scale. Static.
        smallest: Leaves of fewer numbers stay as they are. Static.

    Raises:
        ValueError: If an argument is out of its range.

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
        instead = "unquantize_state(state), with the optimizer inside"
        checks.refuse_placeholder(params, "quantized", instead)
        shapes = {
            path: jnp.shape(leaf)
            for path, leaf in jax.tree.leaves_with_path(params)
            if is_trained(leaf)
        }
        lengths = {len(path) for path in shapes}
        state = inner.init(params)

        def leaf(path, array):
            if _keeps_parameters(array):
                return array
            shape = jnp.shape(array)
            ends = [path[len(path) - length :] for length in lengths]
            real = is_trained(array) and not is_complex(array)
            moment = real and shape in map(shapes.get, ends)
            if shape == () or math.prod(shape) < smallest or not moment:
                return array
            # XLA would take minutes to fold the constants that most moments start as.
            return quantize(jax.lax.optimization_barrier(array), block, counters.zero())

        kept = jax.tree.map_with_path(leaf, state, is_leaf=_keeps_parameters)
        return QuantizedState(counters.zero(), kept)

    def update(updates, state, params=None, **extra_args):
        step = counters.increment(state.step)
        old = _map_codes(_restored, state.inner_state)
        updates, new = inner.update(updates, old, params, **extra_args)

        def leaf(kept, was, now):
            if _coded(kept) is None:
                return now
            return quantize(jnp.where(jnp.isfinite(now), now, was), block, step)

        kept = _map_codes(leaf, state.inner_state, old, new)
        return updates, QuantizedState(step, kept)

    return guarded(optax.GradientTransformationExtraArgs(init, update))


def unquantize_state(opt_state: Any) -> Any:
    """Return an optimizer's state as it would be without quantization.

    Args:
        opt_state: A state with those of `quantized` at any depth.

    Returns:
        The state with the inner state in the place of every `QuantizedState`, and
        arrays in the place of every `Quantized`.

    >>> import adaptax
    >>> tx = quantized(adaptax.momentum(0.1))
    >>> unquantize_state(tx.init(jax.numpy.ones((64, 64))))[0].velocity.shape
    (64, 64)
    """

    def visit(node):
        if isinstance(node, QuantizedState):
            return unquantize_state(node.inner_state)
        return _restored(node)

    return _map_codes(visit, opt_state)


@functools.partial(jax.jit, static_argnums=1)
def quantize(array: jax.Array, block: int, step: Any) -> Quantized:
    """Round an array of finite numbers to codes.

    Args:
        array: Of any shape and real floating dtype, but not empty.
        block: B >= 1, at most so many numbers to a scale.
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
    # What is on a code but for the rounding of floats is not to leave it.
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
    """Return the shape of an array in blocks of one length, which are the last axis."""
    if shape and shape[-1] % block == 0:
        return (*shape[:-1], shape[-1] // block, block)
    blocks = -(-math.prod(shape) // block)
    return blocks, -(-math.prod(shape) // blocks)


def _in_blocks(array: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Return its elements in blocks, the last one filled up with zeros."""
    missing = math.prod(shape) - array.size
    if missing:
        array = jnp.pad(array.ravel(), (0, missing))
    return array.reshape(shape)


def _as_whole(blocks: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    size = math.prod(shape)
    if blocks.size > size:
        blocks = blocks.ravel()[:size]
    return blocks.reshape(shape)


_TURNS = (0x9E3779B1, 0xC2B2AE35, 0x85EBCA6B, 0x27D4EB2F)
"""Parts of 2³² by which the dither goes on: by step, by place from the last axis on."""


def _dither(shape: tuple[int, ...], step: Any) -> jax.Array:
    """Return fractions in [0, 1) for the places of an array in blocks."""
    turn = jnp.asarray(step).astype(jnp.uint32) * jnp.uint32(_TURNS[0])
    for axis in range(len(shape)):
        place = jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
        turn = turn + place * jnp.uint32(_TURNS[1 + (len(shape) - 1 - axis) % 3])
    return (turn >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)


def _map_codes(function: Callable[..., Any], state: Any, *states: Any) -> Any:
    """Map over the leaves, of which `Quantized` is one, and a `quantized` within."""

    def is_leaf(node):
        return isinstance(node, QuantizedState) or _coded(node) is not None

    return jax.tree.map(function, state, *states, is_leaf=is_leaf)


def _coded(node: Any) -> Quantized | None:
    """Return a node as `Quantized`, of which Flax NNX makes a mapping."""
    if isinstance(node, Quantized):
        return node
    if not isinstance(node, Mapping) or set(node) != set(Quantized._fields):
        return None
    codes, scales = node["codes"], node["scales"]
    is_array = hasattr(codes, "dtype") and hasattr(scales, "dtype")
    return Quantized(codes, scales) if is_array and codes.dtype == jnp.int8 else None


def _restored(node: Any) -> Any:
    coded = _coded(node)
    return node if coded is None else coded.array()


def _keeps_parameters(node: Any) -> bool:
    return asked(node, "evaluated") is not None
