"""Polyak step sizes: the rate at which a linear model reaches the lowest loss.

    r = (f − f*) / (c ‖g‖² + ε)
    rate = min(r, cap)         or, soft:   rate = r · cap / (r + cap)

One rule with several names:

* SPS_max: `polyak()`, and smoothed `polyak(growth=2 ** (1 / batches_per_epoch))`, whose
  cap is the previous rate times the growth, so that the rate rises slowly;
* SPS+: `polyak(max_rate=None, c=1.0, eps=0.0)`, which has no cap;
* NGN: `polyak(max_rate=sigma, c=0.5, eps=0.0, soft=True)`, σ / (1 + σ ‖g‖² / (2 f));
* ALI-G: `polyak(max_rate, c=1.0, eps=1e-5)`, with `optax.trace(0.9)` after it in the
  chain for its momentum.

Source: Loizou, Vaswani, Laradji & Lacoste-Julien (2021), "Stochastic Polyak Step-size
for SGD: An Adaptive Learning Rate for Fast Convergence", AISTATS (arXiv 2002.10542).
SPS+: Garrigos, Gower & Schaipp (2023), "Function Value Learning: Adaptive Learning
Rates Based on the Polyak Stepsize and Function Splitting in ERM" (arXiv 2307.14528).
NGN: Orvieto & Xiao (2024), "An Adaptive Stochastic Gradient Method with Non-negative
Gauss-Newton Stepsizes" (arXiv 2407.04358). ALI-G: Berrada, Zisserman & Kumar (2020),
"Training Neural Networks for and by Interpolation", ICML (arXiv 1906.05661).
`optax.polyak_sgd` ascends where the loss is below its bound, and one NaN loss stops its
training.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from adaptax._core import checks
from adaptax._core.checks import Scalar
from adaptax._core.following import Controller, follow_gradients
from adaptax._core.leaves import global_norm
from adaptax._core.methods import Method
from adaptax._core.scalars import real
from adaptax._core.words import translating


class PolyakState(NamedTuple):
    """The state of `polyak`, float32 scalars.

    `learning_rate` is the rate applied, initially 0. `cap` bounds the next rate (before
    it grows), and `gap` is f − f* at the last step, at least 0.
    """

    learning_rate: jax.Array
    cap: jax.Array
    gap: jax.Array

    def has_unit(self) -> bool:
        """Return True: a rate by itself; see `adaptax._core.seats`."""
        return True


@translating
def polyak(
    max_rate: Scalar | None = 1.0,
    *,
    c: Scalar = 0.5,
    lower_bound: Scalar = 0.0,
    eps: Scalar = 1e-8,
    growth: Scalar | None = None,
    soft: bool = False,
    name: str | None = None,
) -> Controller:
    """Use the step that brings a linear model of the loss down to its lower bound.

    With the default c = 0.5, steps below the cap are twice as long as those of
    `optax.polyak_sgd`, whose scaling of 1 is c = 1 and which has no ε.

    It treats the updates that reach it as the gradient, so put it directly after
    `scale_by_gradient_descent`, before any other rate: the step size is absolute.

    Args:
        max_rate: The cap > 0 of the rate, or of the first rate with a `growth`; `None`
            for no cap. Whether it is `None` is structural.
        c: > 0; 1/2 for the fastest descent, 1 for a proof without convexity.
        lower_bound: f*, a lower bound of the loss of every batch, 0 for most losses.
        eps: ε >= 0, added to the denominator.
        growth: >= 1, the largest ratio of a rate to the previous one; rates of 0 are
            disregarded. Needs a `max_rate`. Whether it is `None` is structural.
        soft: Whether the rate approaches the cap smoothly. Structural.
        name: The name of the state in `telemetry`. Structural.

    Raises:
        TypeError: At `update`, if `value`, the loss of the batch, is missing.

    If the loss is at or below the bound, the rate is 0. If the gradient is 0, the rate
    is the cap; without a cap, 0. If the loss or the gradient norm is not finite, the
    state stays as it is, and the previous rate applies.

    >>> import optax
    >>> optimizer = optax.chain(polyak(max_rate=None, eps=0.0), optax.scale(-1.0))
    >>> update, state = optimizer.update(2.0, optimizer.init(2.0), value=2.0)
    >>> float(update)
    -2.0
    """
    if max_rate is not None:
        checks.number("max_rate", max_rate, above=0)
    checks.number("c", c, above=0)
    checks.number("lower_bound", lower_bound)
    checks.number("eps", eps, at_least=0)
    if growth is not None:
        checks.number("growth", growth, at_least=1)
        checks.require(max_rate is not None, "growth needs a max_rate, got None.")

    def init(params):
        del params
        cap = real(0.0 if max_rate is None else max_rate)
        return PolyakState(real(0.0), cap, real(0.0))

    def capped(ratio, cap):
        if max_rate is None:
            return jnp.where(jnp.isinf(ratio), 0, ratio)
        if soft:  # avoids overflow
            return jnp.minimum(ratio, cap) / (1 + _smaller_over_larger(ratio, cap))
        return jnp.minimum(ratio, cap)

    def advance(state, gradients, updates, params, value):
        del gradients, params
        norm, gap = (
            global_norm(updates, computed=True),
            jnp.maximum(value - real(lower_bound), 0),
        )
        denominator = real(c) * norm * norm + real(eps)
        positive = denominator > 0
        ratio = jnp.where(positive, gap / jnp.where(positive, denominator, 1), jnp.inf)
        if growth is not None:
            cap = state.cap * real(growth)
        else:
            cap = real(0.0 if max_rate is None else max_rate)
        rate = jnp.where(gap > 0, capped(ratio, cap), 0)
        if growth is not None:
            cap = jnp.where(rate > 0, rate, state.cap)
        return PolyakState(rate, cap, gap), jnp.isfinite(norm) & jnp.isfinite(gap)

    return follow_gradients("polyak", init, advance, needs=("value",), name=name)


def _smaller_over_larger(one: jax.Array, other: jax.Array) -> jax.Array:
    larger = jnp.maximum(one, other)
    return jnp.minimum(one, other) / jnp.where(larger > 0, larger, 1)


METHOD = Method(
    {"max_rate": 0.2, "c": 0.5, "lower_bound": 0.1, "eps": 1e-6, "growth": 1.25},
    source="Loizou, Vaswani, Laradji & Lacoste-Julien (2021)",
    variants=(
        {"growth": None},
        {"max_rate": None, "growth": None},
        {"soft": True},
    ),
    needs=frozenset({"value"}),
    differs="optax.polyak_sgd has neither smoothing nor a soft cap.",
)
