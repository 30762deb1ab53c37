"""Coordinatewise updates: one rule for an array, applied to every leaf of a tree.

Most optimizers treat each coordinate independently. Such a method is a rule on arrays,
and `by_coordinate` applies it:

* The rule computes in float32 at least. Updates keep the dtype they came in.
* A gradient that is not finite, or so large that a sum of squares might overflow (from
  1.8e15 on in float32), counts as 0, coordinate by coordinate. A complex gradient does
  if either of its parts is at fault. Otherwise the step is an ordinary one: averages
  decay, and the coordinate moves on by its momentum.
* Leaves that are not trained (see `adaptax._core.leaves`) pass through.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from adaptax._core.checks import Scalar, require
from adaptax._core.guards import flattened, require_matching
from adaptax._core.leaves import (
    by_parts,
    computing_dtype,
    dtype_of,
    is_complex,
    is_trained,
    kept_dtype,
    narrowed,
    real_dtype,
    require_trainable,
)
from adaptax._core.rounding import of_what_is_stored
from adaptax._core.scalars import known
from adaptax._core.usable_gradients import cleaned


def accumulators(
    params: optax.Params, fill: Scalar = 0.0, dtype: Any = None
) -> optax.Updates:
    """Make a tree of arrays shaped like the parameters, one value everywhere.

    Args:
        params: Arrays, or their shapes and dtypes.
        fill: The value.
        dtype: The dtype of the arrays; by default that of each leaf, but float32 for
            half precision. For complex leaves it is the dtype of the real and imaginary
            parts, and at least 32 bits wide. Leaves that are not trained get an
            `optax.MaskedNode`.

    Raises:
        ValueError: If a leaf is a random key or a narrow float.
    """

    def kept(own):
        return kept_dtype(dtype or computing_dtype(own), own)

    return _filled(params, fill, kept)


def magnitudes(
    params: optax.Params, fill: Scalar = 0.0, dtype: Any = None
) -> optax.Updates:
    """Make a tree like `accumulators` that is real even for complex leaves.

    It holds magnitudes |z| or squares |z|².
    """

    def kept(own):
        return real_dtype(dtype or computing_dtype(own))

    return _filled(params, fill, kept)


def _filled(params, fill, kept) -> optax.Updates:
    require_trainable(params)

    def leaf(param):
        if not is_trained(param):
            return optax.MaskedNode()
        dtype = kept(dtype_of(param))
        shaped = param if hasattr(param, "shape") else jnp.asarray(param)
        return jnp.full_like(shaped, jnp.asarray(fill).astype(dtype), dtype)

    return jax.tree.map(leaf, params)


def remember(memory: optax.Updates, updates: optax.Updates) -> optax.Updates:
    """Replace the updates stored in a tree from `accumulators` by new ones.

    Raises:
        ValueError: If the trees differ in structure or in a shape.
    """

    def copy(new, old):
        if not is_trained(old) or not is_trained(new):
            return old
        return jnp.asarray(new).astype(dtype_of(old))

    leaves, structure = flattened(updates)
    old = require_matching(updates, leaves, structure, memory, "the optimizer has")
    return structure.unflatten(map(copy, leaves, old))


def by_coordinate(
    rule: Callable[..., tuple[jax.Array, ...]],
    updates: optax.Updates,
    *trees: Any,
    reads: tuple[Any, ...] = (),
    where: bool | jax.Array = True,
    **scalars: Scalar,
) -> tuple[Any, ...]:
    """Apply a rule to every trained leaf of the updates and of the state's trees.

    Args:
        rule: `rule(g, *leaves, *reads, **scalars)` returns the update and each of the
            state's new leaves, all shaped like g. Complex leaves are passed as complex
            arrays, all others as real arrays of the same precision. The update should
            be computed from new leaves only: XLA copies a donated leaf that is read
            after its new value is computed (measured on CPU: 3 times the time of a
            step).
        updates: The gradients g.
        trees: The state's trees, as `accumulators` makes them.
        reads: Trees that the rule reads and does not return, such as the parameters.
        where: A boolean scalar: whether this step counts. It is for methods with
            scalars that all leaves share. If false, the updates are 0 and so are all
            scalars, with which the rule must leave its leaves unchanged. (Choosing
            between old and new leaves would copy them.)
        scalars: The rule's scalars, cast to the dtype that each leaf is computed in.

    Returns:
        The updates and the state's trees, each in its own dtype. A real gradient of a
        complex parameter gives a complex update.

    Raises:
        ValueError: If a tree differs from the updates in structure or in a shape; the
            message names the first path that differs. If a gradient is complex where
            the state is for a real parameter.
    """
    leaves, structure = flattened(updates)
    columns = [
        require_matching(updates, leaves, structure, tree, "the optimizer has")
        for tree in (*trees, *reads)
    ]
    rows = [
        _on_leaf(rule, len(trees), where, scalars, leaf, *row)
        for leaf, *row in zip(leaves, *columns, strict=True)
    ]
    width = 1 + len(trees)
    outputs = zip(*rows, strict=True) if rows else [()] * width
    new_updates, *new_trees = (list(column) for column in outputs)
    return structure.unflatten(new_updates), *map(structure.unflatten, new_trees)


def divide(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """Divide by real numbers; the result is 0 where the denominator is 0."""
    safe = jnp.where(denominator == 0, jnp.inf, denominator)
    return by_parts(lambda part: part / safe, numerator)


def unit(number: jax.Array) -> jax.Array:
    """Return the sign of a real number, or z / |z| of a complex one; 0 at 0."""
    if not is_complex(number):
        return jnp.sign(number)
    return divide(number, jnp.abs(number))


def root(square: jax.Array) -> jax.Array:
    """Return the square root, with the derivative at 0 defined as 0."""
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)


def power(base: jax.Array, exponent: jax.Array) -> jax.Array:
    """Return a power, with the derivative at 0 defined as 0."""
    positive = base > 0
    at_zero = jax.lax.stop_gradient(jnp.power(base, exponent))
    above = jnp.power(jnp.where(positive, base, 1), exponent)
    return jnp.where(positive, above, at_zero)


def average_weight(factor: Scalar, step: jax.Array) -> jax.Array:
    """Return the weight of the newest value in a bias-corrected moving average.

        m̂ ← m̂ + w (x − m̂),   w = (1 − b) / (1 − bᵗ),   t = 1, 2, …

    At every step, m̂ equals the moving average m ← b m + (1 − b) x divided by 1 − bᵗ.
    With b = 1 it is the plain mean, w = 1/t.

    Args:
        factor: b in [0, 1].
        step: t >= 1, the number of values, the newest included.
    """
    real = jnp.result_type(float)
    factor, step = jnp.asarray(factor).astype(real), step.astype(real)
    return jnp.where(
        factor < 1, divide(1 - factor, 1 - factor**step), 1 / jnp.maximum(step, 1)
    )


def without_bias(average: Any, factor: Scalar, step: jax.Array) -> Any:
    """Correct the bias of a moving average that started at 0: divide by 1 − bᵗ.

    Args:
        average: A tree of arrays, m ← b m + (1 − b) x from m = 0.
        factor: b in [0, 1].
        step: t >= 0, the number of values averaged; for t = 0 the result is 0.
    """
    real = jnp.result_type(float)
    log = jnp.log1p(jnp.asarray(factor).astype(real) - 1)
    bias = -jnp.expm1(jnp.maximum(log, -80) * step.astype(real))  # finite for b = 0
    return jax.tree.map(
        lambda leaf: divide(leaf, bias.astype(real_dtype(leaf.dtype))), average
    )


def _on_leaf(rule, num_trees, where, scalars, gradient, *row):
    if not is_trained(gradient) or any(not is_trained(leaf) for leaf in row):
        return gradient, *row[:num_trees]
    given = rule, num_trees, where is not True, scalars, where, gradient, *row
    computed = _computed if known(gradient, row) else _traced_once
    if not any(map(is_complex, (gradient, *row))):
        return computed(*given)
    # Rules multiply complex arrays by real arrays and real scalars.
    with jax.numpy_dtype_promotion("standard"):
        return computed(*given)


def _computed(rule, num_trees, conditional, scalars, where, gradient, *row):
    own = dtype_of(gradient)
    if any(map(is_complex, row)):
        own = kept_dtype(own, jnp.dtype(jnp.complex64))
    dtypes = [own, *map(dtype_of, row)]
    wide = real_dtype(computing_dtype(*dtypes))
    widened = [
        jnp.asarray(leaf).astype(computing_dtype(dtype, wide))
        for leaf, dtype in zip((gradient, *row), dtypes, strict=True)
    ]
    scalars = {name: jnp.asarray(value).astype(wide) for name, value in scalars.items()}
    if conditional:
        scalars = {name: jnp.where(where, x, 0) for name, x in scalars.items()}
    narrow = [
        (place, dtype)
        for place, dtype in enumerate(dtypes[1 : 1 + num_trees], 1)
        if dtype != widened[place].dtype
    ]
    if narrow:
        rule = of_what_is_stored(rule, dict(narrow))
    update, *states = rule(cleaned(widened[0]), *widened[1:], **scalars)
    if conditional:
        update = jnp.where(where, update, 0)
    return narrowed(update, own), *map(_stored, states, row[:num_trees])


# Leaves of one shape and dtype are traced once.
_traced_once = jax.jit(_computed, static_argnums=(0, 1, 2))


def _stored(new: jax.Array, old: jax.Array) -> jax.Array:
    require(
        is_complex(old) or not is_complex(new),
        f"a gradient is complex where the optimizer keeps {dtype_of(old)}. Give init "
        "the complex parameters, or update the real part of the gradient.",
    )
    return narrowed(new, dtype_of(old))
