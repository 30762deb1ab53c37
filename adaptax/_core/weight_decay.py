"""Weight decay: every step also pulls the weights towards 0.

    u ← u + λ_t w      (before the rate, so w ← w − α (u + λ_t w))

λ is a number, or a function of the step t from 0, and a mask says which leaves decay.
So it is in `with_weight_decay` and wherever else a `weight_decay` is taken; a method
that counts its steps reads the function at the step that it counts.

Source: Loshchilov & Hutter (2019), "Decoupled Weight Decay Regularization", ICLR. Optax
takes a function of the step in `add_decayed_weights` and what is made of it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from adaptax._core import checks, counters, masks
from adaptax._core.checks import Scalar, require
from adaptax._core.coordinates import by_coordinate
from adaptax._core.guards import guarded

WeightDecay: TypeAlias = Scalar | Callable[[jax.Array], Any]
"""A number, a traced scalar, or a function `step -> λ`, such as a schedule."""

Mask: TypeAlias = Any | Callable[[optax.Params], Any] | None
"""Booleans like the parameters, a prefix of such a tree, or a function that makes it;
`None` for all leaves."""


class Decay(NamedTuple):
    """How fast which leaves decay.

    `at(step)` is λ. `mask(params)` is a tree of ones, where a leaf decays, and zeros;
    `part(tree, params)` keeps of a tree like the parameters the leaves that decay.
    """

    at: Callable[[jax.Array], Scalar]
    mask: Callable[[optax.Params], Any]
    part: Callable[[Any, optax.Params], Any]


class WeightDecayState(NamedTuple):
    """The state of a decay that is a function of the step.

    `step` counts the updates, from 0, and `inner_state` is the direction's.
    """

    step: jax.Array
    inner_state: optax.OptState


def decaying(weight_decay: WeightDecay, mask: Mask = None) -> Decay:
    """Check the arguments of a method that decays its weights.

    Args:
        weight_decay: λ >= 0. What a function gives is 0 where it is negative or not
            finite.
        mask: Which leaves decay.

    Raises:
        TypeError: If `weight_decay` is neither a number nor a function. When first
            used, if a function gives what is not real.
        ValueError: If it is negative, not finite or not a scalar. When first used, if a
            function gives what is not a scalar.
    """
    if not callable(weight_decay):
        kind = "a number or a function of the step"
        checks.number("weight_decay", weight_decay, at_least=0, kind=kind)

    def at(step):
        return _evaluate(weight_decay, step) if callable(weight_decay) else weight_decay

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
    """Add the decayed weights to what a direction gives.

    Args:
        direction: The transformation that gives u. The state is its state, within a
            `WeightDecayState` if the decay is a function.
        weight_decay: λ >= 0, per unit of learning rate, or a function of the step.
        mask: A tree of booleans, or prefix of one, like the parameters, or a function
            that makes one of them: where it is false, nothing decays.

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
        params = checks.given_params(params, "weight decay")
        step, inner = state if counted else (counters.zero(), state)
        directions, inner = direction.update(updates, inner, params, **extra_args)
        reads = (params, decays.mask(params))
        (updates,) = by_coordinate(rule, directions, reads=reads, decay=decays.at(step))
        step = counters.increment(step)
        return updates, WeightDecayState(step, inner) if counted else inner

    return guarded(optax.GradientTransformationExtraArgs(init, update))


def _evaluate(function: Callable[[jax.Array], Any], step: jax.Array) -> jax.Array:
    given = jnp.asarray(function(step))
    if jnp.issubdtype(given.dtype, jnp.complexfloating):
        raise TypeError(f"weight_decay must give a real number, got {given.dtype}.")
    require(
        given.shape == (),
        f"weight_decay must give a scalar, got an array of shape {given.shape}.",
    )
    given = given.astype(jnp.result_type(float))
    return jnp.where(jnp.isfinite(given), jnp.maximum(given, 0), 0)
