"""Decoupled weight decay: every step also pulls the weights towards 0.

    u ← u + λ w      (before the rate, so w ← w − α (u + λ w))

Source: Loshchilov & Hutter (2019), "Decoupled Weight Decay Regularization", ICLR.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from adaptax import checks, masks
from adaptax.checks import Scalar
from adaptax.coordinates import by_coordinate
from adaptax.guards import guarded


def with_weight_decay(
    direction: optax.GradientTransformation,
    weight_decay: Scalar,
    mask: Any | Callable[[optax.Params], Any] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Add the decayed weights to what a direction gives.

    A coordinate whose gradient is not finite does not decay either: it does not move.

    Args:
        direction: The transformation that gives u. The state is its state.
        weight_decay: λ >= 0, per unit of learning rate.
        mask: A tree of booleans, or prefix of one, like the parameters, or a function
            that makes one of them: where it is false, nothing decays.

    Raises:
        ValueError: At `update`, if `params` is missing.
    """
    checks.number("weight_decay", weight_decay, at_least=0)
    direction = optax.with_extra_args_support(direction)

    def rule(g, add, u, w, chosen, weight_decay):
        del g, add
        return (u + weight_decay * chosen * w,)

    def update(updates, state, params=None, **extra_args):
        params = checks.given_params(params, "weight decay")
        directions, state = direction.update(updates, state, params, **extra_args)
        reads = (directions, params, _chosen(mask, params))
        (updates,) = by_coordinate(
            rule, updates, reads=reads, weight_decay=weight_decay
        )
        return updates, state

    return guarded(optax.GradientTransformationExtraArgs(direction.init, update))


def _chosen(mask: Any, params: optax.Params) -> Any:
    """Make a tree of ones and zeros like the parameters."""
    chosen = masks.spread("mask", True if mask is None else mask, params)
    return jax.tree.map(
        lambda one, w: jnp.full_like(w, 1.0 if one else 0.0, jnp.float32),
        chosen,
        params,
    )
