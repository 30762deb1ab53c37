"""Quantized state: one byte per number, in blocks with a scale each.

A block of B numbers x with the largest magnitude s is stored as s and codes q:

    if no x is negative   x̃ = s (q / 255)⁴,          q = 0 … 255
    otherwise             x̃ = s sign(q) (q / 127)²,  q = −127 … 127

So small numbers keep their relative precision: neighbouring codes differ by 1.6 % at
the largest number, and the smallest code is 2·10⁻¹⁰ or 6·10⁻⁵ of it. In a block without
negative numbers, a positive one never becomes 0, since optimizers divide by its root.

Between two codes, x is rounded with a dither. At step t and position (i, j) in the
blocks, it is rounded

    up where   (|x| − below) / (above − below) > u,     u = (t φ + i φ₁ + j φ₂) mod 1

With the golden ratio φ, u covers all fractions evenly over the steps, so x̃ is x in the
mean. Rounded to the nearest code, a moving average that changes by 0.1 % per step would
never move. A number that is on a code stays there.

Source: Dettmers, Lewis, Shleifer & Zettlemoyer (2022), "8-bit Optimizers via Block-wise
Quantization", ICLR, for blocks, and for leaving small leaves as they are. The powers,
instead of its table of codes, and the dither are ours. Optax has no such method.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptax._core import checks, counters
from adaptax._core.guards import guarded
from adaptax._core.leaves import is_complex, is_trained
from adaptax._core.methods import Method
from adaptax._core.states import asked
from adaptax._core.words import translating
from adaptax.wrappers.block_codes import Quantized, quantize


class QuantizedState(NamedTuple):
    """The state of `quantized`.

    In `inner_state` a `Quantized` replaces every quantized array; `step` counts the
    updates, for the dither.
    """

    step: jax.Array
    inner_state: optax.OptState


@translating
def quantized(
    inner: optax.GradientTransformation, block: int = 256, *, smallest: int = 4096
) -> optax.GradientTransformationExtraArgs:
    """Store the state of an optimizer in 8 bits, 1 + 4 / B bytes per number.

    It quantizes the arrays in the state that have the path and the shape of a
    parameter, such as moments: Adam's take 2.03 bytes per parameter instead of 8.
    Complex arrays stay as they are (second moments are real). So do states with
    evaluation parameters, such as that of `schedule_free`, which need full precision:
    put `quantized` around its inner optimizer. Do not put it around optimizers that
    store the initial parameters, such as `dog`. A number that is not finite does not
    enter the state; the previous one stays.

    Args:
        inner: The optimizer, from adaptax or Optax.
        block: B >= 1, the numbers per scale. Static.
        smallest: Leaves with fewer elements stay as they are. Static.

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
            # Most moments start as constants, which XLA would take minutes to fold.
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
        opt_state: A state that contains states of `quantized` at any depth.

    Returns:
        The state with every `QuantizedState` replaced by its inner state, and every
        `Quantized` by an array.

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


def _map_codes(function: Callable[..., Any], state: Any, *states: Any) -> Any:
    """Map over the leaves of states, with `Quantized` and nested states as leaves."""

    def is_leaf(node):
        return isinstance(node, QuantizedState) or _coded(node) is not None

    return jax.tree.map(function, state, *states, is_leaf=is_leaf)


def _coded(node: Any) -> Quantized | None:
    """Return a node as `Quantized`, also if Flax NNX made a mapping of it."""
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


METHOD = Method(
    {"learning_rate": 0.1, "block": 8, "smallest": 1},
    source="Dettmers, Lewis, Shleifer & Zettlemoyer (2022)",
    differs="Optax has none.",
)
