"""Gradient variance: a rate that follows the size or the noise of the gradient.

    by="variance":   S̄ ← average of ⟨g_t, g_{t−1}⟩
                     P̄ ← average of (‖g_t‖² + ‖g_{t−1}‖²) / 2
                     scale = (S̄ / P̄)^a = (1 + B_noise / B)^(−a)
    by="norm":       scale = (N̄ / ‖g_t‖)^a,   N̄ ← average of ‖g‖

S̄ estimates |G|², the squared norm of the gradient without noise, and P̄ − S̄ the variance
tr Σ / B of the gradient of B examples. The noise scale B_noise = tr Σ / |G|² is about
B (P̄ − S̄) / S̄. The norms of n micro-batch gradients gᵢ with mean g give an estimate at
each step: S = (n ‖g‖² − mean ‖gᵢ‖²) / (n − 1) and P = ‖g‖².

Source: McCandlish, Kaplan, Amodei et al. (2018), "An Empirical Model of Large-Batch
Training" (arXiv 1812.06162), whose rate for a batch of B is ε_max / (1 + B_noise / B).
The averages are exponential and debiased, after Johnson, Agrawal, Gu & Guestrin (2020),
"AdaScale SGD: A User-Friendly Algorithm for Distributed Training" (arXiv 2007.05105).
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptax._core import checks, counters
from adaptax._core.checks import Scalar
from adaptax._core.coordinates import (
    accumulators,
    average_weight,
    divide,
    power,
    remember,
)
from adaptax._core.following import Controller, follow_gradients
from adaptax._core.leaves import global_norm, inner_product
from adaptax._core.methods import Method
from adaptax._core.scalars import real
from adaptax._core.words import translating

By = Literal["variance", "norm"]


class GradientNoiseState(NamedTuple):
    """The state of `gradient_variance` by the variance.

    `learning_rate` is the scale applied, `signal` is S̄ and `power` P̄, and `seen` counts
    the gradients. `previous` is the previous gradient, shaped like the parameters, in
    float32 for half precision; `None` with micro-batches.
    """

    learning_rate: jax.Array
    signal: jax.Array
    power: jax.Array
    seen: jax.Array
    previous: optax.Updates | None


class GradientNormState(NamedTuple):
    """The state of `gradient_variance` by the norm.

    `learning_rate` is the scale applied, `mean_norm` is N̄, and `seen` counts the
    averaged norms.
    """

    learning_rate: jax.Array
    mean_norm: jax.Array
    seen: jax.Array


@translating
def gradient_variance(
    decay: Scalar = 0.99,
    exponent: Scalar = 1.0,
    min_scale: Scalar = 0.1,
    max_scale: Scalar = 10.0,
    *,
    by: By = "variance",
    micro_batches: bool = False,
    name: str | None = None,
) -> Controller:
    """Scale the rate by the gradient's signal-to-noise ratio, or inversely to its norm.

    After gradient descent, the updates that reach it are the gradient. After any other
    direction, pass the gradient: `tx.update(grads, state, params, grad=grads)`.

    Args:
        decay: The decay of the averages, in [0, 1).
        exponent: a >= 0; 1/2 for directions that are divided by a root, such as Adam.
        min_scale: The smallest scale, in (0, 1].
        max_scale: The largest scale, >= 1. With "variance", the scale hardly exceeds 1.
        by: "variance", or "norm": down as gradients grow, up as they vanish.
            Structural.
        micro_batches: With "variance", whether to read the extra argument
            `micro_norms` of `update` instead of storing the previous gradient: the
            norms (n,) of the n >= 2 micro-batch gradients whose mean is the gradient.
            Structural.
        name: The name of the state in `telemetry`. Structural.

    The scale is 1 at the first step, and as long as all gradients are 0. With "norm",
    N̄ averages the earlier norms, each clipped to N̄ / min_scale, so that a single large
    one does not dominate; a gradient of 0 has no effect. A gradient that is not finite
    has no effect, and the previous scale applies.

    >>> controller = gradient_variance(by="norm")
    >>> state = controller.init(1.0)
    >>> for gradient in (1.0, 4.0):
    ...     update, state = controller.update(gradient, state)
    >>> float(update)
    1.0
    """
    checks.averaging_factor("decay", decay)
    checks.number("exponent", exponent, at_least=0)
    checks.number("min_scale", min_scale, above=0, at_most=1)
    checks.number("max_scale", max_scale, at_least=1)
    checks.one_of("by", by, By)

    def bounded(ratio):
        return jnp.clip(power(ratio, real(exponent)), real(min_scale), real(max_scale))

    if by == "norm":
        checks.require(not micro_batches, "micro_batches needs by='variance'.")
        return _by_norm(decay, bounded, min_scale, name)
    return _by_variance(decay, bounded, micro_batches, name)


def _by_variance(decay, bounded, micro_batches, name) -> Controller:
    def init(params):
        previous = None if micro_batches else accumulators(params)
        return GradientNoiseState(
            real(1.0), real(0.0), real(0.0), counters.zero(), previous
        )

    def estimates(state, gradients, *micro_norms):
        norm = global_norm(gradients)
        if micro_batches:
            return _of_micro_batches(norm, *micro_norms)
        before = global_norm(state.previous)
        signal = inner_product(gradients, state.previous)
        return signal, (norm * norm + before * before) / 2

    def advance(state, gradients, updates, params, *micro_norms):
        del updates, params
        previous = None if micro_batches else remember(state.previous, gradients)
        signal, power = estimates(state, gradients, *micro_norms)
        usable = jnp.isfinite(signal) & jnp.isfinite(power)
        seen = counters.increment(state.seen)
        count = seen if micro_batches else seen - 1  # the first has no previous one
        weight = average_weight(decay, jnp.maximum(count, 1)).astype(jnp.float32)
        weight = jnp.where(count > 0, weight, 0)
        signal = state.signal + weight * (signal - state.signal)
        power = state.power + weight * (power - state.power)
        measurable = power > 0
        part = jnp.where(measurable, divide(jnp.maximum(signal, 0), power), 1)
        scale = jnp.where(measurable, bounded(part), 1)
        return GradientNoiseState(scale, signal, power, seen, previous), usable

    needs = ("micro_norms",) if micro_batches else ()
    return follow_gradients("gradient_variance", init, advance, needs=needs, name=name)


def _of_micro_batches(norm, micro_norms):
    """Estimate |G|², and |G|² plus the variance, from the gradients of one step."""
    number = jnp.size(micro_norms)
    checks.require(
        jnp.ndim(micro_norms) == 1 and number > 1,
        "micro_norms must be the norms (n,) of at least 2 gradients, "
        f"got shape {jnp.shape(micro_norms)}.",
    )
    squares = jnp.square(jnp.asarray(micro_norms).astype(jnp.float32))
    power = norm * norm
    return (number * power - jnp.mean(squares)) / (number - 1), power


def _by_norm(decay, bounded, min_scale, name) -> Controller:
    def init(params):
        del params
        return GradientNormState(real(1.0), real(0.0), counters.zero())

    def advance(state, gradients, updates, params):
        del updates, params
        norm = global_norm(gradients)
        first = state.seen == 0
        mean = jnp.where(first, norm, state.mean_norm)
        ratio = divide(mean, norm)
        entering = jnp.minimum(norm, mean / real(min_scale))
        seen = counters.increment(state.seen)
        weight = average_weight(decay, seen).astype(jnp.float32)
        after = GradientNormState(
            learning_rate=jnp.where(ratio > 0, bounded(ratio), 1),
            mean_norm=mean + weight * (entering - mean),
            seen=seen,
        )
        kept = jax.tree.map(
            lambda new, old: jnp.where(norm > 0, new, old), after, state
        )
        return kept, jnp.isfinite(norm)

    return follow_gradients("gradient_variance", init, advance, name=name)


METHOD = Method(
    {"decay": 0.9, "exponent": 0.5, "min_scale": 0.02, "max_scale": 3.0},
    source="McCandlish, Kaplan, Amodei et al. (2018)",
    variants=({"by": "norm"}, {"micro_batches": True}),
    differs="Optax has no rate that follows the gradient noise.",
)
