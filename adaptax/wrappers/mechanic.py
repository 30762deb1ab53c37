"""Mechanic: a learning rate for any optimizer, learned while it trains.

    h = ⟨g_t + λ S_t (‖g_t‖ / ‖w_t‖) w_t, Δ_t⟩
    and for each of n factors β:
    m ← max(β m, |h|),   v ← β² v + h²,   r ← max(0, β r − s h)
    s ← (s₀ m / n + r) / (√v + ε),        S_{t+1} = Σ s
    w_{t+1} = w_0 + S_{t+1} Δ_{t+1},      Δ_{t+1} = Δ_t + u_t

u are the updates of the inner optimizer, and Δ the path that they would have made at a
rate of 1. S multiplies the inner rate, which may follow a schedule: only its shape
matters then.

Source: Cutkosky, Defazio & Mehta (2023), "Mechanic: A Learning Rate Tuner", NeurIPS
(arXiv 2306.00144), Alg. 1. `optax.contrib.mechanize` also clips h, and divides w − w_0
by S for Δ, where float32 cannot tell it from rounding while S is small; here Δ is kept.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptax._core import checks
from adaptax._core.checks import Scalar
from adaptax._core.coordinates import divide, root
from adaptax._core.leaves import global_norm, inner_product
from adaptax._core.scalars import real
from adaptax._core.scaled_paths import scale_path
from adaptax._core.weight_decay import Mask, WeightDecay, decaying
from adaptax._core.words import translating


class MechanicTuner(NamedTuple):
    """What Mechanic knows: `learning_rate` is S, 0 before the first step.

    `scales` is s, `rewards` is r, `largest` is m and `squares` is v, one for each β.
    """

    learning_rate: jax.Array
    scales: jax.Array
    rewards: jax.Array
    largest: jax.Array
    squares: jax.Array

    def has_unit(self) -> bool:
        """Return False: it scales what the inner optimizer's rate has made."""
        return False


@translating
def mechanic(
    inner: optax.GradientTransformation,
    *,
    initial_scale: Scalar = 1e-8,
    weight_decay: WeightDecay = 0.01,
    eps: Scalar = 1e-8,
    betas: Sequence[Scalar] = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999),
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    """Learn how much of an optimizer's path is best.

    The scale starts at 1e-8, as in the paper; in `optax.contrib.mechanize` at 1e-6.

    The first step moves nothing: it takes two to compare. A step of which a number is
    not finite is not taken, by the inner optimizer either, and is counted.

    Args:
        inner: The optimizer, at a rate around 1 (or the shape of a schedule). Not one
            whose steps have a length of their own, such as line searches.
        initial_scale: s₀ > 0, the second step's S: too small does little harm.
        weight_decay: λ >= 0, which steadies S, or a function of the step. Where ‖w‖ is
            0, so is its term.
        eps: ε > 0.
        betas: The β in [0, 1), how fast each of the tuners forgets.
        mask: Which leaves w in that term has: booleans like the parameters, or a
            function of them.

    Raises:
        ValueError: At `update`, if `params` is missing.
    """
    checks.number("initial_scale", initial_scale, above=0)
    checks.number("eps", eps, above=0)
    decays, factors = decaying(weight_decay, mask), as_factors(betas)

    def tuner():
        return MechanicTuner(real(0.0), *(jnp.zeros_like(factors) for _ in range(4)))

    def tune(state, step, gradients, path, params):
        w = decays.part(params, params)
        decay = real(decays.at(step)) * state.learning_rate * global_norm(gradients)
        decay = divide(decay, global_norm(w)) * inner_product(w, path)
        h = inner_product(gradients, path) + decay
        largest = jnp.maximum(factors * state.largest, jnp.abs(h))
        squares = factors**2 * state.squares + h**2
        rewards = jnp.maximum(factors * state.rewards - state.scales * h, 0)
        wealth = real(initial_scale) / factors.size * largest + rewards
        scales = wealth / (root(squares) + real(eps))
        return MechanicTuner(jnp.sum(scales), scales, rewards, largest, squares)

    return scale_path(inner, tuner, tune, "mechanic")


def as_factors(betas: Sequence[Scalar]) -> jax.Array:
    """Check the factors of several tuners, and give them as a float32 array.

    Raises:
        ValueError: If there is none, or one is not in [0, 1).
    """
    checks.require(len(betas) > 0, f"betas must have at least one factor, got {betas}.")
    for factor in betas:
        checks.averaging_factor("betas", factor)
    return jnp.stack([real(factor) for factor in betas])
