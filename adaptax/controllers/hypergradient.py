"""Hypergradient descent: gradient descent on the rate itself.

    h = ⟨g_t, u_{t−1}⟩
    multiplicative:   α ← α (1 + β h / (‖g_t‖ ‖u_{t−1}‖))
    additive:         α ← α + β h

u is the direction of a step. While gradients agree with the previous direction, the
rate grows; when they oppose it, it shrinks. The multiplicative rule has no unit, so it
can scale any other rate.

Source: Baydin, Cornish, Martínez Rubio, Schmidt & Wood (2018), "Online Learning Rate
Adaptation with Hypergradient Descent", ICLR (arXiv 1703.04782). Their additive β is
10⁻⁶ for gradient descent and 10⁻⁸ for Adam; their multiplicative β is 0.02.
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
from adaptax._core.methods import Method
from adaptax._core.scalars import real
from adaptax._core.words import translating

Rule = Literal["multiplicative", "additive"]


class HypergradientState(NamedTuple):
    """The state of `hypergradient`.

    `learning_rate` is α, the rate applied, and `slope` is h at the last step, divided
    by the norms if the rule is multiplicative. `previous` is the last direction, shaped
    like the parameters, in float32 for half precision.
    """

    learning_rate: jax.Array
    slope: jax.Array
    previous: optax.Updates


class InitialHypergradientState(HypergradientState):
    """The state of a `hypergradient` with an `initial` rate."""

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
    """Raise the rate while gradients agree with the previous step, else lower it.

    After gradient descent, the updates that reach it are the gradient. After any other
    direction, pass the gradient: `tx.update(grads, state, params, grad=grads)`. (The
    directions of Adam or momentum are averages, which agree with each other whatever
    the rate.)

    Args:
        beta: β in [0, 1) if multiplicative, >= 0 if additive (with the unit of the rate
            over a squared gradient, so values are small).
        initial: The first rate > 0; `None` for 1, to scale the other rates. Whether it
            is `None` is structural.
        min_scale: The smallest rate as a fraction of the initial one, in (0, 1].
        max_scale: The largest rate as a multiple of the initial one, >= 1.
        rule: "multiplicative" or "additive". Structural.
        name: The name of the state in `telemetry`. Structural.

    A gradient or a direction of 0 leaves the rate as it is. So does an update with a
    value that is not finite.

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


METHOD = Method(
    {"beta": 0.05, "initial": 0.5, "min_scale": 0.1, "max_scale": 4.0},
    source="Baydin, Cornish, Martínez Rubio, Schmidt & Wood (2018)",
    variants=({"rule": "additive"},),
    differs="Optax has no hypergradient descent.",
)
