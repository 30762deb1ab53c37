"""The leaves of a tree that are trained, and arithmetic on them.

Floating-point and complex leaves are trained. Integer and boolean leaves, their
`float0` gradients from `jax.grad(allow_int=True)`, `None` and `optax.MaskedNode` pass
through.

A complex number z = x + iy is trained as the point (x, y) of the plane: its square is
|z|², and the inner product of two is Re(z̄ z′) = x x′ + y y′.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from adaptax._core.fusion import apart

_FEW = 8  # scalars: so few may be added again in every loop that reads their sum
_LARGE = 2**16  # elements: storing an array of this size takes longer than adding it up
_PARTS = 8
_COMPLEX = {4: jnp.complex64, 8: jnp.complex128}  # by the bytes of a part
_REAL = {jnp.dtype(jnp.complex64): jnp.float32, jnp.dtype(jnp.complex128): jnp.float64}
_TRAINED = (jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64, *_REAL)


def is_trained(leaf: object) -> bool:
    """Return whether a leaf is a real or complex array or number that is trained."""
    if is_placeholder(leaf):
        return False
    return any(dtype_of(leaf) == kind for kind in _TRAINED)


def trained_leaves(tree: Any) -> list[Any]:
    """Return the leaves of a tree that are trained."""
    return [leaf for leaf in jax.tree.leaves(tree) if is_trained(leaf)]


def with_trained(tree: Any, leaves: Iterable[Any]) -> Any:
    """Replace the leaves of a tree that are trained."""
    remaining = iter(leaves)
    return jax.tree.map(
        lambda leaf: next(remaining) if is_trained(leaf) else leaf, tree
    )


def is_placeholder(leaf: object) -> bool:
    """Return whether a node stands for an untrained leaf; an `is_leaf` for JAX."""
    return leaf is None or isinstance(leaf, optax.MaskedNode)


def is_number(leaf: object) -> bool:
    """Return whether a leaf is a number or an array of numbers or booleans."""
    dtype = getattr(leaf, "dtype", None)
    if dtype is None:
        return isinstance(leaf, bool | int | float | complex)
    return jnp.issubdtype(dtype, jnp.bool_) or jnp.issubdtype(dtype, jnp.number)


def dtype_of(leaf: object) -> jnp.dtype:
    """Return the dtype of an array, a `ShapeDtypeStruct` or a number."""
    return getattr(leaf, "dtype", None) or jnp.result_type(leaf)


def is_complex(leaf: object) -> bool:
    """Return whether an array or number is complex."""
    return dtype_of(leaf) in _REAL


def real_dtype(dtype: Any) -> jnp.dtype:
    """Return the dtype of the real part of a complex dtype; a real dtype itself."""
    return jnp.dtype(_REAL.get(jnp.dtype(dtype), dtype))


def computing_dtype(*dtypes: jnp.dtype) -> jnp.dtype:
    """Return the widest dtype, at least float32, to compute in; complex if any is."""
    parts = (jnp.dtype(jnp.float32), *map(real_dtype, dtypes))
    widest = max(parts, key=lambda dtype: dtype.itemsize)
    if any(dtype in _REAL for dtype in dtypes):
        return jnp.dtype(_COMPLEX[widest.itemsize])
    return widest


def widened(leaf: Any, *others: jnp.dtype) -> jax.Array:
    """Cast a leaf to the dtype to compute in, together with other dtypes."""
    return jnp.asarray(leaf).astype(computing_dtype(dtype_of(leaf), *others))


def kept_dtype(dtype: Any, own: jnp.dtype) -> jnp.dtype:
    """Return the dtype to store an accumulator in: complex where the leaf's own is.

    complex64 stands in for a complex dtype of half precision, which does not exist.
    """
    if own in _REAL:
        return computing_dtype(jnp.dtype(dtype), jnp.dtype(jnp.complex64))
    return real_dtype(dtype)


def by_parts(function: Callable[[jax.Array], jax.Array], array: jax.Array) -> jax.Array:
    """Apply a function of real arrays; to a complex array, part by part."""
    if not is_complex(array):
        return function(array)
    return jax.lax.complex(function(array.real), function(array.imag))


def times(array: jax.Array, scalar: jax.Array) -> jax.Array:
    """Multiply by a real scalar, in the dtype of the array.

    It does not form a complex product, in which an infinite part turns the other to
    NaN.
    """
    return by_parts(lambda part: part * scalar.astype(part.dtype), array)


def abs_sq(array: jax.Array) -> jax.Array:
    """Return |z|² elementwise, a real array."""
    return inner(array, array)


def inner(one: jax.Array, other: jax.Array) -> jax.Array:
    """Return Re(z̄ z′) elementwise, a real array; for real numbers, their product."""
    if not (is_complex(one) or is_complex(other)):
        return one * other
    real = jnp.real(one) * jnp.real(other)
    if not (is_complex(one) and is_complex(other)):
        return real
    return real + jnp.imag(one) * jnp.imag(other)


def steepest(gradients: Any) -> Any:
    """Conjugate complex gradients from JAX, so that they point uphill.

    For a real loss L of z = x + iy, `jax.grad` returns ∂L/∂x − i ∂L/∂y.
    """
    return jax.tree.map(
        lambda leaf: jnp.conj(leaf) if is_complex(leaf) else leaf, gradients
    )


def narrowed(array: jax.Array, dtype: Any) -> jax.Array:
    """Cast an array, clipping values that a narrower float cannot represent."""
    if jnp.issubdtype(dtype, jnp.inexact) and dtype.itemsize < array.dtype.itemsize:
        limit = float(jnp.finfo(dtype).max)
        array = by_parts(lambda part: jnp.clip(part, -limit, limit), array)
    return array.astype(dtype)


def require_trainable(params: optax.Params | None) -> None:
    """Refuse trees with leaves that could not be trained correctly.

    Raises:
        ValueError: If a leaf is a random key, a float of fewer than 16 bits or an
            integer of fewer than 8 bits; the message names its path.
    """
    for path, leaf in jax.tree.leaves_with_path(params):
        dtype = dtype_of(leaf)
        where = f"params{jax.tree_util.keystr(path)} has dtype {dtype}"
        if jnp.issubdtype(dtype, jax.dtypes.prng_key):
            raise ValueError(
                f"{where}: a random key is not a parameter. Keep it outside the tree, "
                "or mask it with optax.masked."
            )
        narrow = jnp.issubdtype(dtype, jnp.integer) and jnp.iinfo(dtype).bits < 8
        narrow |= jnp.issubdtype(dtype, jnp.floating) and not is_trained(leaf)
        if narrow:
            raise ValueError(
                f"{where}, which is too narrow to be updated. Keep the parameters in "
                "bfloat16 or wider and round them where they are used."
            )


def global_norm(tree: optax.Updates, *, computed: bool = False) -> jax.Array:
    """Return the L2 norm over all trained leaves, a float32 scalar; 0 without any.

    Half precision is squared in float32. The norm is infinite if the sum of squares
    overflows. Its derivative at 0 is defined as 0.

    Args:
        tree: Arrays.
        computed: Whether the arrays are computed in this step for this norm alone. They
            are then summed without being stored, see `folded_sum`. For arrays that are
            in memory anyway this is slower (measured: by a tenth of a step).
    """
    add = _sum if computed else jnp.sum
    leaves = trained_leaves(tree)
    wide = _widest_part(leaves)
    squares = [add(abs_sq(widened(leaf, wide))) for leaf in leaves]
    total = _total(squares, wide)
    root = jnp.sqrt(jnp.where(total == 0, 1, total))
    return jnp.where(total == 0, 0, root).astype(jnp.float32)


def inner_product(
    one: optax.Updates, other: optax.Updates, *, computed: bool = False
) -> jax.Array:
    """Return the inner product over the leaves trained in both, a float32 scalar.

    Complex leaves contribute Re(z̄ z′). Half precision is multiplied in float32. The
    product is not finite if the sum overflows. For `computed` see `global_norm`.
    """
    add = _sum if computed else jnp.sum

    def product(leaf, other_leaf):
        if not is_trained(leaf) or not is_trained(other_leaf):
            return jnp.zeros((), jnp.float32)
        wide = _widest_part((leaf, other_leaf))
        return add(inner(widened(leaf, wide), widened(other_leaf, wide)))

    products = jax.tree.leaves(
        jax.tree.map(product, one, other, is_leaf=is_placeholder)
    )
    wide = computing_dtype(*map(dtype_of, products))
    return _total(products, wide).astype(jnp.float32)


def absolute_sum(tree: optax.Updates) -> jax.Array:
    """Return the L1 norm over all trained leaves, a float32 scalar; 0 without any.

    Half precision is summed in float32.
    """
    leaves = trained_leaves(tree)
    wide = _widest_part(leaves)
    sums = [jnp.sum(jnp.abs(widened(leaf, wide))) for leaf in leaves]
    return _total(sums, wide).astype(jnp.float32)


def _widest_part(leaves: Sequence[Any]) -> jnp.dtype:
    return real_dtype(computing_dtype(*map(dtype_of, leaves)))


@jax.jit
def _sum(array: jax.Array) -> jax.Array:
    """Sum all elements; on one CPU device, without storing a large summand.

    With several devices the array may be sharded, and `folded_sum` would move its
    parts between them.
    """
    if array.size < _LARGE or jax.device_count() > 1:
        return jnp.sum(array)
    return jax.lax.platform_dependent(array, cpu=folded_sum, default=jnp.sum)


def folded_sum(array: jax.Array) -> jax.Array:
    """Sum all elements, by first adding a few equal parts to each other.

    XLA:CPU fuses only products and sums into a reduction. It stores the result of
    anything more complex, such as a gradient with 0 where it is not finite, in an array
    as large as the parameters. A loop that ends in a `where` is fused whole, so this
    one does, although its `where` changes nothing.
    """
    flat = array.reshape(-1)
    length = -(-flat.size // _PARTS)
    parts = [flat[start : start + length] for start in range(0, flat.size, length)]
    parts[-1] = jnp.pad(parts[-1], (0, length - parts[-1].size))
    folded = sum(parts[1:], parts[0])
    return jnp.sum(jnp.where(jnp.isnan(folded), jnp.nan, folded))


def _total(parts: list[jax.Array], dtype: jnp.dtype) -> jax.Array:
    """Sum scalars, one for each leaf."""
    parts = [part.astype(dtype) for part in parts]
    if len(parts) <= _FEW:
        return sum(parts, jnp.zeros((), dtype))
    return _sum_of_many(parts)


@jax.jit
def _sum_of_many(parts: list[jax.Array]) -> jax.Array:
    return apart(jnp.sum, jnp.stack(parts))


def chosen(condition: bool | jax.Array, new: Any, old: Any) -> Any:
    """Choose between two states of one structure, in the dtypes of the old one.

    Leaves that are the same object in both are passed through.
    """

    def leaf(one, other):
        if one is other or dtype_of(one) == jax.dtypes.float0:
            return one
        if dtype_of(one) != dtype_of(other):
            one = jnp.asarray(one).astype(dtype_of(other))
        return jnp.where(condition, one, other)

    return jax.tree.map(leaf, new, old)
