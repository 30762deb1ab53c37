"""LAMB: AdamW with the step of each leaf scaled to the norm of its weights.

    u = m̂ / (√(v̂ + ε₀) + ε) + λ w      with m̂ and v̂ as in Adam
    w ← w − α ‖w‖ / ‖u‖ u              leaf by leaf, with the L2 norm

So each leaf moves by the fraction α of its norm, whatever the size of its gradients.
It was designed for large batches.

Source: You, Li, Reddi, Hseu, Kumar, Bhojanapalli, Song, Demmel, Keutzer & Hsieh (2020),
"Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", ICLR, Alg. 2
with φ(z) = z. λ is 0 by default, as in Optax; the authors train BERT with 0.01.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from adaptax._core.checks import Scalar
from adaptax._core.coordinates import root
from adaptax._core.guards import guarded
from adaptax._core.leaves import (
    abs_sq,
    computing_dtype,
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


@translating
def scale_by_lamb(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-6,
    eps_root: Scalar = 0.0,
    weight_decay: WeightDecay = 0.0,
    mask: Mask = None,
    *,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Return AdamW's direction with the norm of the weights, by leaf; needs `params`.

    A leaf's direction is not scaled if its norm or that of the weights is 0 or not
    finite; otherwise weights of 0 would never move. A leaf without any finite gradient
    does not move.

    Args:
        b1: See `scale_by_adam`.
        b2: See `scale_by_adam`.
        eps: See `scale_by_adam`.
        eps_root: See `scale_by_adam`.
        weight_decay: λ >= 0, or a function of the step. The decay is a part of u.
        mask: Leaves that decay: booleans like the parameters, or a function of them.
        accumulator_dtype: See `scale_by_adam`.
    """
    adam = scale_by_adam(b1, b2, eps, eps_root, accumulator_dtype=accumulator_dtype)
    direction = with_weight_decay(adam, weight_decay, mask)

    def update(updates, state, params=None, **extra_args):
        directions, state = direction.update(updates, state, params, **extra_args)
        directions = jax.tree.map(
            _with_norm_of, directions, params, updates, is_leaf=is_placeholder
        )
        return directions, state

    return guarded(optax.GradientTransformationExtraArgs(direction.init, update))


@translating
def lamb(
    learning_rate: LearningRate,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-6,
    eps_root: Scalar = 0.0,
    weight_decay: WeightDecay = 0.0,
    mask: Mask = None,
    *,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """LAMB, ready to use; see `scale_by_lamb` for the other arguments.

    The defaults are those of Optax; Keras has eps=1e-7.

    Args:
        learning_rate: α, anything that `adaptax.descend` takes, as a fraction of the
            norm of each leaf.
    """
    direction = scale_by_lamb(
        b1,
        b2,
        eps,
        eps_root,
        weight_decay,
        mask,
        accumulator_dtype=accumulator_dtype,
    )
    return optax.chain(direction, descend(learning_rate))


def _with_norm_of(update: Any, param: Any, gradient: Any) -> Any:
    """Scale an update to the norm of a parameter, if both are positive and finite.

    It is 0 where no element of the gradient is usable: a momentum without gradients,
    scaled, would not shrink.
    """
    if not is_trained(update) or not is_trained(param):
        return update
    wide = computing_dtype(dtype_of(update), dtype_of(param))
    u, w = jnp.asarray(update).astype(wide), jnp.asarray(param).astype(wide)
    ours, theirs = root(jnp.sum(abs_sq(u))), root(jnp.sum(abs_sq(w)))
    both = (ours > 0) & (theirs > 0) & jnp.isfinite(ours) & jnp.isfinite(theirs)
    ratio = jnp.where(both, theirs, 1) / jnp.where(both, ours, 1)
    ratio = jnp.where(usable(widened(gradient)).any(), ratio, 0)
    return narrowed(times(u, ratio), dtype_of(update))


METHOD = Method(
    {
        "learning_rate": 0.1,
        "b1": 0.8,
        "b2": 0.99,
        "eps": 1e-6,
        "eps_root": 1e-7,
        "weight_decay": 0.01,
    },
    source=(
        "You, Li, Reddi, Hseu, Kumar, Bhojanapalli, Song, Demmel, Keutzer & Hsieh "
        "(2020)"
    ),
    needs=frozenset({"params"}),
    usual_rate=0.01,
)
