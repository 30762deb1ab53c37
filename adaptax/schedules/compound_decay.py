"""Compound decay: the rate is discounted at compound interest.

    η_t = η₀ (1 + r/s)^(−s t)

The interest r is compounded s times per step; as s grows, η_t tends to η₀ e^(−r t).

Source: Bernoulli (1690) for the formula. As a schedule it is exponential decay with the
factor (1 + r/s)^(−s).
"""

import jax.numpy as jnp

from adaptax._core import checks
from adaptax._core.checks import Scalar
from adaptax._core.methods import Method
from adaptax._core.scalars import precise, real
from adaptax._core.schedule import Schedule, as_schedule
from adaptax._core.words import translating


@translating
def compound_decay(initial: Scalar, rate: Scalar, periods: Scalar = 1) -> Schedule:
    """Discount the rate at compound interest.

    The rate is `initial` at step 0, and approaches 0.

    Args:
        initial: η₀ >= 0.
        rate: r >= 0, the interest per step.
        periods: s > 0, how often per step it is compounded.

    Raises:
        ValueError: If an argument is out of its range.
    """
    checks.rate("initial", initial)
    checks.number("rate", rate, at_least=0)
    checks.number("periods", periods, above=0)

    def discounted(step):
        interest = precise(lambda xp, r, s: s * xp.log1p(r / s), rate, periods)
        return real(initial) * jnp.exp(-interest * real(step))

    return as_schedule(discounted)


METHOD = Method(
    {"initial": 0.8, "rate": 0.05, "periods": 4.0},
    source="Bernoulli (1690)",
    differs="Optax has no compound decay.",
    over=lambda rate, total_steps: compound_decay(rate, 5 / total_steps),
)
