"""Inverse time: the rate falls as 1/t, every k steps.

    η_t = η₀ / (1 + κ k⌊t/k⌋)

Source: Robbins & Monro (1951), "A Stochastic Approximation Method", for 1/t.

κ is per step, whatever k. Keras's `InverseTimeDecay(η₀, s, r)` is `rate=r/s`; for its
staircase add `every=s`.
"""

from adaptax._core import checks
from adaptax._core.checks import Scalar
from adaptax._core.methods import Method
from adaptax._core.scalars import real
from adaptax._core.schedule import Schedule, as_schedule
from adaptax._core.words import translating
from adaptax.schedules.periods import whole


@translating
def inverse_time(initial: Scalar, *, rate: Scalar, every: Scalar = 1) -> Schedule:
    """Divide the rate by the steps so far.

    The rate is `initial` at step 0, and approaches 0.

    Args:
        initial: η₀ >= 0.
        rate: κ >= 0; the rate falls to half after 1/κ steps.
        every: k >= 1, the steps during which each rate is constant.

    Raises:
        ValueError: If an argument is out of its range.
    """
    checks.rate("initial", initial)
    checks.number("rate", rate, at_least=0)
    checks.steps("every", every, at_least=1)

    def decayed(step):
        _, rest = whole(step, every)
        return real(initial) / (1 + real(rate) * (real(step) - rest))

    return as_schedule(decayed)


METHOD = Method(
    {"initial": 0.8, "rate": 0.05, "every": 7},
    source="Robbins & Monro (1951)",
    differs="Optax has no inverse time.",
    over=lambda rate, total_steps: inverse_time(rate, rate=20 / total_steps),
)
