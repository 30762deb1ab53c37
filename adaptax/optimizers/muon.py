"""Muon: steps whose matrices are turned orthogonal, with AdamW for all else.

    M ← β M + (1 − β) G,      U = one step ahead of M, as in NAdam
    O = U / (‖U‖ + ε), and five times  O ← a O + (b S + c S²) O   with S = O Oᴴ
    W ← W − α (√max(1, n/m) O + λ W)

The iteration is Newton and Schulz's, with a = 3.4445, b = −4.7750 and c = 2.0315: it
takes the singular values of U, if above 1/300 of ‖U‖, to between 0.68 and 1.21, so that
a step of an m × n matrix goes about equally far in all directions. Leaves that are no
matrices take the step of AdamW, at the same rate times `other_scale`.

Source: Jordan, Jin, Boza, You, Cesista, Newhouse & Bernstein (2024), "Muon: An
optimizer for hidden layers in neural networks"; Liu et al. (2025), "Muon is Scalable
for LLM Training", for `consistent_rms`. Embeddings and the last layer are best left to
AdamW: name the others by `matrices`. In Optax, AdamW looks a step ahead as well.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptax._core import checks, counters, masks
from adaptax._core.checks import Scalar, require
from adaptax._core.coordinates import (
    accumulators,
    average_weight,
    by_coordinate,
    divide,
    root,
    usable,
)
from adaptax._core.guards import flattened, guarded, require_matching
from adaptax._core.leaves import (
    abs_sq,
    dtype_of,
    is_complex,
    is_placeholder,
    is_trained,
    kept_dtype,
    narrowed,
    times,
    widened,
)
from adaptax._core.meshes import by_compiler
from adaptax._core.rates import LearningRate, descend
from adaptax._core.weight_decay import Mask, WeightDecay, with_weight_decay
from adaptax._core.words import translating
from adaptax.optimizers.adam import scale_by_adam

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class MuonState(NamedTuple):
    """`mean` is M for the matrices, without bias; `adam` the state of all other leaves.

    `step` counts the updates, from 0, and `skipped` those at which a matrix kept its
    state and did not move, for a gradient that was not finite.
    """

    step: jax.Array
    skipped: jax.Array
    mean: optax.Updates
    adam: optax.OptState


@translating
def scale_by_muon(
    *,
    b: Scalar = 0.95,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    consistent_rms: Scalar | None = None,
    other_scale: Scalar = 1.0,
    matrices: Any | Callable[[optax.Params], Any] | None = None,
    steps: int = 5,
    matrix_dtype: Any = None,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformation:
    """Turn the averaged gradient of each matrix orthogonal; be Adam elsewhere.

    A matrix with an element of the gradient that is not finite is left as it is whole.

    Args:
        b: β, the averaging factor of the matrices' gradients, 0 <= β < 1.
        b1: Adam's β₁, for the leaves that are no matrices.
        b2: Adam's β₂, likewise.
        eps: ε >= 0, added to the norm of a matrix, and Adam's own. Where the whole
            divisor is 0, so is the update.
        eps_root: Adam's ε₀.
        consistent_rms: ρ > 0: the update of a matrix is scaled by ρ √max(m, n), and so
            has the root mean square ρ; with 0.2, a rate for AdamW suits it. `None`: by
            √max(1, n/m).
        other_scale: What Adam's direction is multiplied by, >= 0.
        matrices: Which leaves are matrices: booleans like the parameters, or a function
            of them; by default those with two axes. One with more, such as the kernel
            of a convolution, is taken as a matrix of its last axis by all others.
            Structural.
        steps: How often the iteration is repeated, >= 1. Structural.
        matrix_dtype: The dtype of the iteration, such as `jnp.bfloat16` on an
            accelerator; by default float32, or float64 for such leaves.
        accumulator_dtype: Of the averages; by default the parameters' own, float32 for
            half precision.

    Raises:
        ValueError: At `init`, if `matrices` names a leaf of fewer than two axes.
    """
    checks.averaging_factor("b", b)
    checks.number("eps", eps, at_least=0)
    checks.number("other_scale", other_scale, at_least=0)
    checks.length("steps", steps)
    if consistent_rms is not None:
        checks.number("consistent_rms", consistent_rms, above=0)
    adam = scale_by_adam(b1, b2, eps, eps_root, accumulator_dtype=accumulator_dtype)

    def rule(g, mean, w, ahead):
        mean = mean + w * (g - mean)
        return ahead * mean + w * g, mean

    def scaled(g, scale):
        return (scale * g,)

    def init(params):
        chosen = _chosen(matrices, params)
        others = _where(chosen, params, False)
        mean = accumulators(_where(chosen, params, True), dtype=accumulator_dtype)
        return MuonState(counters.zero(), counters.zero(), mean, adam.init(others))

    def update(updates, state, params=None):
        del params
        chosen = jax.tree.map(is_trained, state.mean, is_leaf=_is_masked)
        leaves, structure = flattened(updates)
        require_matching(updates, leaves, structure, chosen, "the optimizer has")
        ours, others = (_where(chosen, updates, kind) for kind in (True, False))
        step = counters.increment(state.step)
        w, next_w = average_weight(b, step), average_weight(b, step + 1)
        ahead = jnp.asarray(b).astype(w.dtype) * next_w / w
        wide = jax.tree.map(widened, ours)
        whole = jax.tree.map(_is_whole, wide)
        directions, mean = by_coordinate(rule, wide, state.mean, w=w, ahead=ahead)
        mean = jax.tree.map(
            _chosen_mean, whole, mean, state.mean, is_leaf=is_placeholder
        )
        turned = jax.tree.map(turn, directions, ours, whole)
        others, adam_state = adam.update(others, state.adam)
        (others,) = by_coordinate(scaled, others, scale=other_scale)
        updates = jax.tree.map(
            lambda is_ours, our, other: our if is_ours else other,
            chosen,
            turned,
            others,
        )
        skipped = counters.increment(state.skipped, where=~_all(whole))
        return updates, MuonState(step, skipped, mean, adam_state)

    def turn(direction, update, is_whole):
        rows, columns = _shape(direction)

        def orthogonal(direction, eps):
            matrix = direction.reshape(rows, columns)
            return _orthogonal(matrix, eps, steps, matrix_dtype).reshape(
                direction.shape
            )

        turned = by_compiler(orthogonal, direction, eps)
        if consistent_rms is None:
            scale = jnp.asarray(max(1, columns / max(rows, 1)) ** 0.5)
        else:
            scale = jnp.asarray(consistent_rms) * max(rows, columns) ** 0.5
        turned = times(turned.astype(direction.dtype), scale)
        return narrowed(jnp.where(is_whole, turned, 0), dtype_of(update))

    return guarded(optax.GradientTransformation(init, update), whole=True)


@translating
def muon(
    learning_rate: LearningRate,
    *,
    b: Scalar = 0.95,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    weight_decay: WeightDecay = 0.0,
    mask: Mask = None,
    consistent_rms: Scalar | None = None,
    other_scale: Scalar = 1.0,
    matrices: Any | Callable[[optax.Params], Any] | None = None,
    steps: int = 5,
    matrix_dtype: Any = None,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Muon with decoupled weight decay; see `scale_by_muon` for the other arguments.

    Leaves that are no matrices take AdamW's step. In `optax.contrib.muon` they take
    NAdamW's; PyTorch's Muon refuses them, and decays weights by 0.1 by default, not 0.

    A matrix that is left as it is still decays.

    Args:
        learning_rate: α, anything that `adaptax.descend` takes; for matrices it is
            about the change of their singular values.
        weight_decay: λ >= 0, per unit of learning rate, or a function of the step, for
            all leaves. Needs `params` at every update.
        mask: Which leaves decay: booleans like the parameters, or a function of them.
    """
    direction = scale_by_muon(
        b=b,
        b1=b1,
        b2=b2,
        eps=eps,
        eps_root=eps_root,
        consistent_rms=consistent_rms,
        other_scale=other_scale,
        matrices=matrices,
        steps=steps,
        matrix_dtype=matrix_dtype,
        accumulator_dtype=accumulator_dtype,
    )
    return optax.chain(
        with_weight_decay(direction, weight_decay, mask), descend(learning_rate)
    )


def _chosen(matrices: Any, params: optax.Params) -> Any:
    """Make a tree of booleans, one for each leaf: whether it is taken as a matrix."""

    def axes(leaf):
        return len(getattr(leaf, "shape", ()))

    if matrices is None:
        return jax.tree.map(lambda leaf: is_trained(leaf) and axes(leaf) == 2, params)

    def check(path, chosen, leaf):
        chosen = chosen and is_trained(leaf)
        where = f"params{jax.tree_util.keystr(path)}"
        require(
            not chosen or axes(leaf) >= 2,
            f"{where} has {axes(leaf)} axes, and a matrix needs two. "
            "Leave it to Adam: matrices should be false for it.",
        )
        return chosen

    chosen = masks.spread("matrices", matrices, params)
    return jax.tree.map_with_path(check, chosen, params)


def _where(chosen: Any, tree: Any, kind: bool) -> Any:
    """Keep the leaves of one kind, with an `optax.MaskedNode` for each other."""
    return jax.tree.map(
        lambda is_ours, leaf: leaf if is_ours == kind else optax.MaskedNode(),
        chosen,
        tree,
    )


def _is_masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)


def _is_whole(matrix: jax.Array) -> jax.Array:
    return usable(matrix).all()


def _chosen_mean(is_whole: Any, new: jax.Array, old: jax.Array) -> jax.Array:
    return old if is_placeholder(is_whole) else jnp.where(is_whole, new, old)


def _all(flags: Any) -> jax.Array:
    return jnp.stack([*jax.tree.leaves(flags), jnp.ones((), bool)]).all()


def _shape(array: jax.Array) -> tuple[int, int]:
    """Return the rows and columns of an array whose last axis is the columns."""
    return math.prod(array.shape[:-1]), array.shape[-1]


def _orthogonal(matrix: jax.Array, eps: Scalar, steps: int, dtype: Any) -> jax.Array:
    """Bring the singular values close to 1 by the iteration of Newton and Schulz."""
    a, b, c = _COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = _transposed(matrix) if tall else matrix
    norm = root(jnp.sum(abs_sq(x)))
    x = divide(x, norm + jnp.asarray(eps).astype(norm.dtype))
    x = x.astype(kept_dtype(dtype or x.dtype, x.dtype))
    for _ in range(steps):
        square = x @ _transposed(x)
        x = a * x + (b * square + c * square @ square) @ x
    return _transposed(x) if tall else x


def _transposed(matrix: jax.Array) -> jax.Array:
    """Return the transpose, of a complex matrix with the numbers conjugated."""
    return matrix.T.conj() if is_complex(matrix) else matrix.T
