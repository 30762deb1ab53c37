"""Weight decay: every step also pulls the weights towards 0.

    u ← u + λ_t w      (before the rate, so w ← w − α (u + λ_t w))

λ is a number, or a function of the step t from 0, and a mask selects the leaves that
decay. This holds for `with_weight_decay` and for every other `weight_decay`. A method
that counts its own steps evaluates the function at its own count.

Source: Loshchilov & Hutter (2019), "Decoupled Weight Decay Regularization", ICLR.
`optax.add_decayed_weights` takes a function of the step too.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from adaptax._core import checks, counters, masks
from adaptax._core.checks import Scalar
from adaptax._core.coordinates import by_coordinate
from adaptax._core.guards import guarded
from adaptax._core.scalars import at_step

WeightDecay: TypeAlias = Scalar | Callable[[jax.Array], Any]
"""A number, a traced scalar, or a function `step -> λ`, such as a schedule."""

Mask: TypeAlias = Any | Callable[[optax.Params], Any] | None
"""Booleans like the parameters, a prefix of such a tree, or a function that returns it;
`None` for all leaves."""


class Decay(NamedTuple):
    """The strength of the decay, and the leaves that decay.

    `at(step)` is λ. `mask(params)` is a tree of ones where a leaf decays and zeros
    elsewhere. `part(tree, params)` masks the leaves of a tree that do not decay.
    """

    at: Callable[[jax.Array], Scalar]
    mask: Callable[[optax.Params], Any]
    part: Callable[[Any, optax.Params], Any]


class WeightDecayState(NamedTuple):
    """The state of a weight decay that is a function of the step.

    `step` counts the updates, from 0, and `inner_state` is the direction's.
    """

    step: jax.Array
    inner_state: optax.OptState


def decaying(weight_decay: WeightDecay, mask: Mask = None) -> Decay:
    """Check the weight decay and mask of a method, and return its `Decay`.

    Args:
        weight_decay: λ >= 0. Values of a function that are negative or not finite count
            as 0.
        mask: The leaves that decay.

    Raises:
        TypeError: If `weight_decay` is neither a number nor a function. When first
            used, if the value of a function is not real.
        ValueError: If it is negative, not finite or not a scalar. When first used, if
            the value of a function is not a scalar.
    """
    if not callable(weight_decay):
        kind = "a number or a function of the step"
        checks.number("weight_decay", weight_decay, at_least=0, kind=kind)

    def at(step):
        if not callable(weight_decay):
            return weight_decay
        given = at_step("weight_decay", weight_decay, step)
        return jnp.where(jnp.isfinite(given), jnp.maximum(given, 0), 0)

    def flags(params):
        return masks.spread("mask", True if mask is None else mask, params)

    def ones(params):
        return jax.tree.map(
            lambda flag, w: jnp.full_like(w, 1.0 if flag else 0.0, jnp.float32),
            flags(params),
            params,
        )

    def part(tree, params):
        return jax.tree.map(
            lambda flag, leaf: leaf if flag else optax.MaskedNode(),
            flags(params),
            tree,
        )

    return Decay(at, ones, part)


def with_weight_decay(
    direction: optax.GradientTransformation,
    weight_decay: WeightDecay,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    """Add weight decay to a direction.

    Args:
        direction: The transformation that computes u. Its state is the state of the
            result, inside a `WeightDecayState` if the decay is a function.
        weight_decay: λ >= 0, per unit of learning rate, or a function of the step.
        mask: A tree of booleans like the parameters, a prefix of one, or a function
            that returns one. Leaves with false do not decay.

    Raises:
        ValueError: At `update`, if `params` is missing.
    """
    decays, counted = decaying(weight_decay, mask), callable(weight_decay)
    direction = optax.with_extra_args_support(direction)

    def rule(u, w, mask, decay):
        return (u + decay * mask * w,)

    def init(params):
        state = direction.init(params)
        return WeightDecayState(counters.zero(), state) if counted else state

    def update(updates, state, params=None, **extra_args):
        params = checks.required_params(params, "weight decay")
        step, inner = state if counted else (counters.zero(), state)
        directions, inner = direction.update(updates, inner, params, **extra_args)
        reads = (params, decays.mask(params))
        (updates,) = by_coordinate(rule, directions, reads=reads, decay=decays.at(step))
        step = counters.increment(step)
        return updates, WeightDecayState(step, inner) if counted else inner

    return guarded(optax.GradientTransformationExtraArgs(init, update))
