"""Hypergradient descent: the rate goes down the slope that the loss has along it.

    h = ⟨g_t, u_{t−1}⟩
    multiplicative:   α ← α (1 + β h / (‖g_t‖ ‖u_{t−1}‖))
    additive:         α ← α + β h

u is the direction that was followed. While gradients go on pointing along it, the rate
grows; when they turn back, it shrinks. The multiplicative rule knows no units: it can
stand behind any base rate and multiply it.

Source: Baydin, Cornish, Martínez Rubio, Schmidt & Wood (2018), "Online Learning Rate
Adaptation with Hypergradient Descent", ICLR (arXiv 1703.04782). Their additive β is
10⁻⁶ for gradient descent and 10⁻⁸ for Adam, their multiplicative one 0.02.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptax._core import checks
from adaptax._core.checks import Scalar
from adaptax._core.coordinates import accumulators, divide, remember
from adaptax._core.following import Controller, follow_gradients
from adaptax._core.leaves import global_norm, inner_product
from adaptax._core.scalars import real
from adaptax._core.words import translating

Rule = Literal["multiplicative", "additive"]


class HypergradientState(NamedTuple):
    """The state of `hypergradient`.

    `learning_rate` is α, the rate applied; `slope` is h at the last step, divided by
    the norms where the rule is multiplicative; `previous` is the direction before,
    shaped like the parameters, and float32 for half precision.
    """

    learning_rate: jax.Array
    slope: jax.Array
    previous: optax.Updates


class InitialHypergradientState(HypergradientState):
    """The state of a `hypergradient` that was given its `initial` rate."""

    __slots__ = ()

    def has_unit(self) -> bool:
        """Return True: a rate by itself; see `adaptax._core.seats`."""
        return True


@translating
def hypergradient(
    beta: Scalar = 0.02,
    initial: Scalar | None = None,
    min_scale: Scalar = 1e-3,
    max_scale: Scalar = 1e3,
    *,
    rule: Rule = "multiplicative",
    name: str | None = None,
) -> Controller:
    """Raise the rate while gradients agree with the step before, else lower it.

    Behind gradient descent, the updates that reach it are the gradient. Behind any
    other direction it must be told the gradient: `tx.update(grads, state, params,
    grad=grads)`. (The directions of Adam or momentum are averages, which agree with
    each other whatever the rate.)

    Args:
        beta: β in [0, 1) if multiplicative, >= 0 if additive (then its unit is that of
            the rate over a squared gradient, and values are small).
        initial: The first rate > 0. `None` for 1, to scale the rate beside it. Whether
            it is `None` is structural.
        min_scale: The smallest rate as a part of the initial one, in (0, 1].
        max_scale: The largest rate as a multiple of the initial one, >= 1.
        rule: "multiplicative" or "additive". Structural.
        name: Names the state in `telemetry`. Structural.

    A gradient or a direction of 0 leaves the rate as it is. An update of which some
    number is not finite changes nothing, and is scaled by the rate before.

    >>> state = (controller := hypergradient()).init(1.0)
    >>> for gradient in (2.0, 1.0):
    ...     update, state = controller.update(gradient, state)
    >>> float(update)
    1.02
    """
    checks.one_of("rule", rule, Rule)
    multiplicative = rule == "multiplicative"
    checks.number("beta", beta, at_least=0, below=1 if multiplicative else None)
    kind = HypergradientState if initial is None else InitialHypergradientState
    initial = 1.0 if initial is None else initial
    checks.number("initial", initial, above=0)
    checks.number("min_scale", min_scale, above=0, at_most=1)
    checks.number("max_scale", max_scale, at_least=1)

    def init(params):
        zero = jnp.zeros((), jnp.float32)
        return kind(real(initial), zero, accumulators(params))

    def advance(state, gradients, updates, params):
        del params
        previous = remember(state.previous, updates)
        slope = inner_product(gradients, state.previous, computed=True)
        if multiplicative:
            slope = divide(slope, global_norm(gradients, computed=True))
            slope = divide(slope, global_norm(state.previous))
            changed = state.learning_rate * (1 + real(beta) * slope)
        else:
            changed = state.learning_rate + real(beta) * slope
        low, high = (real(initial) * real(scale) for scale in (min_scale, max_scale))
        rate = jnp.clip(changed, low, high)
        usable = jnp.isfinite(slope) & jnp.isfinite(global_norm(updates, computed=True))
        usable &= jnp.isfinite(global_norm(gradients, computed=True))
        after = kind(rate, slope, previous)
        return after, usable

    return follow_gradients("hypergradient", init, advance, name=name)
