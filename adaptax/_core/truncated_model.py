"""The truncated model: the step at which a linear model of the loss meets its bound.

    h = f + ⟨d, x⟩ − k        the model at x; f, d, k average the losses, g and ⟨g, x⟩
    τ = min(α, [(1 + α λ) (f − f* − k) + ⟨d, x⟩]₊ / ‖d‖²)

An unknown bound is estimated, never below f₀:

    f* ← max(c / 2, f₀)  where c < f*,  c = f − k + ⟨d, x⟩ / (1 + α λ)       (before)
    f* ← max(h − τ ‖d‖² / 2, f₀)                                             (after)

`momo` and `momo_adam` share it; in the latter ‖d‖² is Σ d²/D. Where only some leaves
decay, with λ = 0 in the others,

    τ = min(α, [f − f* − k + Σ ⟨d, x⟩ / (1 + α λ)]₊ / Σ ‖d‖² / (1 + α λ))

with sums over the leaves, each with its own λ; c has the same sum.
"""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from adaptax._core import counters
from adaptax._core.coordinates import divide
from adaptax._core.extra_args import read_metric
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

    `step` counts the steps. `skipped` counts the losses and gradients that were not
    finite, and the losses that were absurd beside the `usual` ones (see
    `adaptax._core.plausibility`). `rate` is the state of α, and `learning_rate` is τ/α
    of the last step, at most 1 and initially 1. `mean_value` is f, `mean_product` k and
    `lower_bound` f*.
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
    """Return the loss in the extra arguments of `update`, as a float32 scalar.

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
    """Average in a loss and a product ⟨g, x⟩, with the given weight.

    With `anew`, the average of the losses restarts, since the one in it was absurd.
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
        model: The model with updated averages.
        product: ⟨d, x⟩.
        norm_sq: ‖d‖². Where it is 0, so is τ.
        alpha: α, the longest step.
        decayed: α λ.
        least: f₀; if the bound is not `estimated`, the bound itself.
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


def counted(
    counts: jax.Array, new: TruncatedModel, old: TruncatedModel
) -> TruncatedModel:
    """Return the new model if the step counts, otherwise the old, and count either."""

    def one(name):
        return jnp.where(counts, getattr(new, name), getattr(old, name))

    names = ("learning_rate", "mean_value", "mean_product", "lower_bound")
    return new._replace(
        step=counters.increment(old.step, where=counts),
        skipped=counters.increment(old.skipped, where=~counts),
        **{name: one(name) for name in names},
    )
