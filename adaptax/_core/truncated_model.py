"""The truncated model: how far a linear model of the loss leads down to its bound.

    h = f + ⟨d, x⟩ − k        the model at x, of averaged losses, gradients and ⟨g, x⟩
    τ = min(α, [(1 + α λ) (f − f* − k) + ⟨d, x⟩]₊ / ‖d‖²)

An unknown bound is estimated, never below f₀:

    f* ← max(c / 2, f₀)  where c < f*,  c = f − k + ⟨d, x⟩ / (1 + α λ)       (before)
    f* ← max(h − τ ‖d‖² / 2, f₀)                                             (after)

It is the part that `momo` and `momo_adam` share; for the latter ‖d‖² is Σ d²/D. In
leaves that do not decay, λ is 0: then

    τ = min(α, [f − f* − k + Σ ⟨d, x⟩ / (1 + α λ)]₊ / Σ ‖d‖² / (1 + α λ))

with sums over the leaves, each with its own λ, and likewise in c.
"""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from adaptax._core import counters
from adaptax._core.coordinates import divide
from adaptax._core.following import read_metric
from adaptax._core.plausibility import Usual, usual
from adaptax._core.scalars import real


class Split(NamedTuple):
    """A sum over all leaves, and the part of it over those that decay."""

    whole: jax.Array
    decaying: jax.Array

    def shrunk(self, decayed: jax.Array) -> jax.Array:
        """Return the sum with the part that decays divided by 1 + α λ."""
        return self.decaying / (1 + decayed) + (self.whole - self.decaying)


class TruncatedModel(NamedTuple):
    """The scalars of the model.

    `step` counts the steps and `skipped` the losses and gradients that were not finite,
    or losses absurd by what is `usual`, see `adaptax._core.plausibility`.
    `learning_rate` is τ / α of the last step, which α in `rate` multiplies; 1 before
    the first, the most it can be. `mean_value` is f, `mean_product` k and `lower_bound`
    f*.
    """

    step: jax.Array
    skipped: jax.Array
    learning_rate: jax.Array
    mean_value: jax.Array
    mean_product: jax.Array
    lower_bound: jax.Array
    rate: Any
    usual: Usual


def initial(lower_bound: Any, rate: Any) -> TruncatedModel:
    """Return the model before the first step."""
    return TruncatedModel(
        step=counters.zero(),
        skipped=counters.zero(),
        learning_rate=real(1.0),
        mean_value=real(0.0),
        mean_product=real(0.0),
        lower_bound=real(lower_bound),
        rate=rate,
        usual=usual(),
    )


def read_loss(extra_args: dict[str, Any]) -> jax.Array:
    """Read the loss from the extra arguments of `update`, as a float32 scalar.

    Raises:
        TypeError: If `value` is missing.
    """
    return cast(jax.Array, read_metric(extra_args, "value"))


def averaged(
    model: TruncatedModel,
    weight: jax.Array,
    value: jax.Array,
    product: jax.Array,
    anew: jax.Array,
) -> TruncatedModel:
    """Let a loss and a product ⟨g, x⟩ into the averages, with the newest's weight.

    That of the losses starts `anew` where the one in it was absurd.
    """
    weight = weight.astype(jnp.float32)
    value_weight = jnp.where(anew, 1, weight)
    return model._replace(
        mean_value=model.mean_value + value_weight * (value - model.mean_value),
        mean_product=model.mean_product + weight * (product - model.mean_product),
    )


def truncated(
    model: TruncatedModel,
    product: Split,
    norm_sq: Split,
    alpha: jax.Array,
    decayed: jax.Array,
    least: jax.Array,
    estimated: bool,
) -> tuple[jax.Array, TruncatedModel]:
    """Return the step τ that reaches the bound, and the model with its new bound.

    Args:
        model: The model with its averages up to date.
        product: ⟨d, x⟩.
        norm_sq: ‖d‖². Where it is 0, so is τ.
        alpha: α, the longest step.
        decayed: α λ.
        least: f₀, the bound itself if it is not `estimated`.
        estimated: Whether the bound is estimated. Structural.
    """
    difference = model.mean_value - model.mean_product
    bound, reach = least, difference + product.shrunk(decayed)
    if estimated:
        halved = jnp.maximum(reach / 2, least)
        bound = jnp.where(reach < model.lower_bound, halved, model.lower_bound)
    gap = jnp.maximum(reach - bound, 0)
    step_size = jnp.minimum(alpha, divide(gap, norm_sq.shrunk(decayed)))
    if estimated:
        reached = difference + product.whole - step_size * norm_sq.whole / 2
        bound = jnp.maximum(reached, least)
    factor = divide(step_size, alpha)
    return step_size, model._replace(learning_rate=factor, lower_bound=bound)


def chosen(
    counts: jax.Array, new: TruncatedModel, old: TruncatedModel
) -> TruncatedModel:
    """Keep the old model where a step does not count, and count which it is."""

    def one(name):
        return jnp.where(counts, getattr(new, name), getattr(old, name))

    names = ("learning_rate", "mean_value", "mean_product", "lower_bound")
    return new._replace(
        step=counters.increment(old.step, where=counts),
        skipped=counters.increment(old.skipped, where=~counts),
        **{name: one(name) for name in names},
    )
