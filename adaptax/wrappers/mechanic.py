"""Mechanic: a learning rate for any optimizer, learned while it trains.

    h = ⟨g_t + λ S_t (‖g_t‖ / ‖w_t‖) w_t, Δ_t⟩
    for each of n factors β:
    m ← max(β m, |h|),   v ← β² v + h²,   r ← max(0, β r − s h)
    s ← (s₀ m / n + r) / (√v + ε),        S_{t+1} = Σ s
    w_{t+1} = w_0 + S_{t+1} Δ_{t+1},      Δ_{t+1} = Δ_t + u_t

u are the updates of the inner optimizer, and Δ is their sum. S multiplies the inner
rate, so if that follows a schedule, only its shape matters.

Source: Cutkosky, Defazio & Mehta (2023), "Mechanic: A Learning Rate Tuner", NeurIPS
(arXiv 2306.00144), Alg. 1. `optax.contrib.mechanize` also clips h. It computes Δ as
(w − w_0) / S, which is lost in float32 rounding while S is small; here Δ is stored.
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
from adaptax._core.methods import Method
from adaptax._core.scalars import real
from adaptax._core.scaled_paths import scale_path
from adaptax._core.weight_decay import Mask, WeightDecay, decaying
from adaptax._core.words import translating


class MechanicTuner(NamedTuple):
    """The tuner's state: `learning_rate` is S, initially 0.

    `scales` is s, `rewards` r, `largest` m and `squares` v, one for each β.
    """

    learning_rate: jax.Array
    scales: jax.Array
    rewards: jax.Array
    largest: jax.Array
    squares: jax.Array

    def has_unit(self) -> bool:
        """Return False: it scales the inner optimizer's rate."""
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
    """Learn the best scale of an optimizer's path.

    The scale starts at 1e-8, as in the paper; in `optax.contrib.mechanize` at 1e-6.

    The first step moves nothing, since its path is empty. A step with a value that is
    not finite is counted but not taken, by the inner optimizer either.

    Args:
        inner: The optimizer, at a rate around 1 (or the shape of a schedule). Not one
            that chooses its own step length, such as a line search.
        initial_scale: s₀ > 0, about S of the second step. A value that is too small
            does little harm.
        weight_decay: λ >= 0, which stabilizes S, or a function of the step. Where ‖w‖
            is 0, so is its term.
        eps: ε > 0.
        betas: The factors β in [0, 1): the smaller, the faster its part forgets.
        mask: Leaves w of the weight decay: booleans like the parameters, or a function
            of them.

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
    """Check the factors of several tuners, and return them as a float32 array.

    Raises:
        ValueError: If there is none, or one is not in [0, 1).
    """
    checks.require(len(betas) > 0, f"betas must have at least one factor, got {betas}.")
    for factor in betas:
        checks.averaging_factor("betas", factor)
    return jnp.stack([real(factor) for factor in betas])


METHOD = Method(
    {
        "learning_rate": 1.0,
        "initial_scale": 0.03,
        "weight_decay": 0.02,
        "eps": 1e-4,
        "betas": (0.8, 0.95, 0.99),
    },
    source="Cutkosky, Defazio & Mehta (2023)",
    needs=frozenset({"params"}),
    differs="optax.contrib.mechanize clips h and adds ε to m.",
    rate="path",
)
