"""Power decay: the rate falls as a power of the step.

    η_t = η₀ (1 + α t)^(−p)

Source: Robbins & Monro (1951), "A Stochastic Approximation Method"; ½ < p <= 1
satisfies their conditions Σ η = ∞ and Σ η² < ∞. Caffe calls it "inv". For t ≫ 1/α it is
a t^(−p) with a = η₀ α^(−p): the rule of Shen et al. (2024), "Power Scheduler: A Batch
Size and Token Number Agnostic Learning Rate Scheduler", whose p is 0.51.

p = ½ is `inverse_sqrt`, and p = 1 is `inverse_time`.
"""

import jax.numpy as jnp

from adaptax._core import checks
from adaptax._core.checks import Scalar
from adaptax._core.methods import Method
from adaptax._core.scalars import real
from adaptax._core.schedule import Schedule, as_schedule
from adaptax._core.words import translating


@translating
def power_decay(initial: Scalar, power: Scalar, rate: Scalar = 1.0) -> Schedule:
    """Divide the rate by a power of the steps so far.

    The rate is `initial` at step 0, and approaches 0.

    Args:
        initial: η₀ >= 0.
        power: p >= 0.
        rate: α >= 0; the rate falls to η₀/2^p after 1/α steps.

    Raises:
        ValueError: If an argument is out of its range.
    """
    checks.rate("initial", initial)
    checks.number("power", power, at_least=0)
    checks.number("rate", rate, at_least=0)

    def decayed(step):
        return real(initial) * jnp.exp(
            -real(power) * jnp.log1p(real(rate) * real(step))
        )

    return as_schedule(decayed)


METHOD = Method(
    {"initial": 0.8, "power": 0.75, "rate": 0.1},
    source="Robbins & Monro (1951)",
    differs="Optax has no power decay.",
    over=lambda rate, total_steps: power_decay(rate, 0.75, 30 / total_steps),
)
