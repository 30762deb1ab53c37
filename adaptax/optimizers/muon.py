"""Muon: orthogonalized steps for matrices, and AdamW for all other leaves.

    M ← β M + (1 − β) G,      U = one step ahead of M, as in NAdam
    O = U / (‖U‖ + ε), and five times  O ← a O + (b S + c S²) O   with S = O Oᴴ
    W ← W − α (√max(1, n/m) O + λ W)

This is the Newton-Schulz iteration, with a = 3.4445, b = −4.7750 and c = 2.0315. It
brings the singular values of U, if above ‖U‖/300, to between 0.68 and 1.21, so that a
step of an m × n matrix is about equally long in all directions. Leaves that are not
matrices take AdamW's step, at the rate times `other_scale`.

Source: Jordan, Jin, Boza, You, Cesista, Newhouse & Bernstein (2024), "Muon: An
optimizer for hidden layers in neural networks"; Liu et al. (2025), "Muon is Scalable
for LLM Training", for `consistent_rms`. Embeddings and the last layer are best left to
AdamW: select the others by `matrices`. Optax uses NAdamW instead of AdamW.
"""

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
)
from adaptax._core.guards import flattened, guarded, require_matching
from adaptax._core.leaves import (
    dtype_of,
    is_placeholder,
    is_trained,
    narrowed,
    times,
    widened,
)
from adaptax._core.methods import Method
from adaptax._core.rates import LearningRate, descend
from adaptax._core.usable_gradients import usable
from adaptax._core.weight_decay import Mask, WeightDecay, with_weight_decay
from adaptax._core.words import translating
from adaptax.optimizers.adam import scale_by_adam
from adaptax.optimizers.newton_schulz import matrix_shape, orthogonalized


class MuonState(NamedTuple):
    """`mean` is M of the matrices, bias-corrected, and `adam` the state of the others.

    `step` counts the updates, from 0. `skipped` counts those at which a matrix had a
    gradient that was not finite, kept its state and did not move.
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
    """Orthogonalize the averaged gradient of each matrix; apply Adam to other leaves.

    If an element of a matrix's gradient is not finite, the whole matrix stays as it is.

    Args:
        b: β, the averaging factor of the matrices' gradients, 0 <= β < 1.
        b1: Adam's β₁, for the leaves that are not matrices.
        b2: Adam's β₂, for the same leaves.
        eps: ε >= 0, added to the norm of a matrix, and Adam's ε. Where the divisor is
            0, so is the update.
        eps_root: Adam's ε₀.
        consistent_rms: ρ > 0: the update of a matrix is scaled by ρ √max(m, n), and so
            has the root mean square ρ; with 0.2, a rate for AdamW is suitable. `None`:
            it is scaled by √max(1, n/m).
        other_scale: The factor of Adam's direction, >= 0.
        matrices: The leaves that are matrices: booleans like the parameters, or a
            function of them; by default those with two axes. In a leaf with more, such
            as a convolution's kernel, all axes but the last are joined. Structural.
        steps: The number of iterations, >= 1. Structural.
        matrix_dtype: The dtype of the iteration, such as `jnp.bfloat16` on an
            accelerator; by default float32, or float64 for such leaves.
        accumulator_dtype: The dtype of the averages; by default that of the parameters,
            or float32 for half precision.

    Raises:
        ValueError: At `init`, if `matrices` selects a leaf with fewer than two axes.
    """
    checks.averaging_factor("b", b)
    checks.number("eps", eps, at_least=0)
    checks.number("other_scale", other_scale, at_least=0)
    checks.length("steps", steps)
    if consistent_rms is not None:
        checks.number("consistent_rms", consistent_rms, above=0)
    adam = scale_by_adam(b1, b2, eps, eps_root, accumulator_dtype=accumulator_dtype)

    def orthogonalize(direction, update, is_whole):
        step = _orthogonal_step(direction, eps, steps, matrix_dtype, consistent_rms)
        return narrowed(jnp.where(is_whole, step, 0), dtype_of(update))

    def init(params):
        chosen = _matrix_leaves(matrices, params)
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
        directions, mean = by_coordinate(_ahead, wide, state.mean, w=w, ahead=ahead)
        mean = jax.tree.map(
            _chosen_mean, whole, mean, state.mean, is_leaf=is_placeholder
        )
        orthogonal = jax.tree.map(orthogonalize, directions, ours, whole)
        others, adam_state = adam.update(others, state.adam)
        (others,) = by_coordinate(_scaled, others, scale=other_scale)
        updates = jax.tree.map(
            lambda is_ours, our, other: our if is_ours else other,
            chosen,
            orthogonal,
            others,
        )
        skipped = counters.increment(state.skipped, where=~_all(whole))
        return updates, MuonState(step, skipped, mean, adam_state)

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

    Leaves that are not matrices take AdamW's step. In `optax.contrib.muon` they take
    NAdamW's; PyTorch's Muon refuses them, and its default weight decay is 0.1, not 0.
    A matrix that is skipped still decays.

    Args:
        learning_rate: α, anything that `adaptax.descend` takes; for matrices, about the
            size of the step's singular values.
        weight_decay: λ >= 0, per unit of learning rate, or a function of the step, for
            all leaves. Needs `params` at every update.
        mask: Leaves that decay: booleans like the parameters, or a function of them.
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


def _ahead(g, mean, w, ahead):
    mean = mean + w * (g - mean)
    return ahead * mean + w * g, mean


def _scaled(g, scale):
    return (scale * g,)


def _orthogonal_step(
    direction: jax.Array,
    eps: Scalar,
    steps: int,
    dtype: Any,
    consistent_rms: Scalar | None,
) -> jax.Array:
    """Orthogonalize a matrix, and scale it by its shape."""
    rows, columns = matrix_shape(direction)
    orthogonal = orthogonalized(direction, eps, steps, dtype)
    if consistent_rms is None:
        scale = jnp.asarray(max(1, columns / max(rows, 1)) ** 0.5)
    else:
        scale = jnp.asarray(consistent_rms) * max(rows, columns) ** 0.5
    return times(orthogonal.astype(direction.dtype), scale)


def _matrix_leaves(matrices: Any, params: optax.Params) -> Any:
    """Return a tree of booleans: whether each leaf is treated as a matrix."""

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
            "Set matrices to False for it, to train it with Adam.",
        )
        return chosen

    chosen = masks.spread("matrices", matrices, params)
    return jax.tree.map_with_path(check, chosen, params)


def _where(chosen: Any, tree: Any, kind: bool) -> Any:
    """Keep the leaves of one kind, and mask the others."""
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


METHOD = Method(
    {
        "learning_rate": 0.1,
        "b": 0.8,
        "b1": 0.8,
        "b2": 0.99,
        "eps": 1e-6,
        "eps_root": 1e-7,
        "weight_decay": 0.01,
    },
    source="Jordan, Jin, Boza, You, Cesista, Newhouse & Bernstein (2024)",
    variants=({"consistent_rms": 0.2, "other_scale": 0.5},),
    needs=frozenset({"params"}),
    differs="optax.contrib.muon looks a step ahead in Adam's leaves as well.",
    usual_rate=0.01,
)
