"""Step decay: the rate drops by a factor at regular intervals.

    η_t = η₀ f^⌊t/k⌋

Source: used since He, Zhang, Ren & Sun (2016), "Deep Residual Learning for Image
Recognition"; the same as PyTorch's `StepLR`. For drops at irregular steps see
`piecewise`.
"""

import jax.numpy as jnp

from adaptax._core import checks
from adaptax._core.checks import Scalar
from adaptax._core.methods import Method
from adaptax._core.scalars import log, real
from adaptax._core.schedule import Schedule, as_schedule
from adaptax._core.words import translating
from adaptax.schedules.periods import whole


@translating
def step_decay(initial: Scalar, *, factor: Scalar, every: Scalar) -> Schedule:
    """Multiply the rate by `factor` every `every` steps.

    The rate is `initial` at step 0, and approaches 0.

    Args:
        initial: η₀ >= 0.
        factor: f, 0 < f <= 1.
        every: k >= 1, in steps. A new rate starts at each multiple of k.

    Raises:
        ValueError: If an argument is out of its range.
    """
    checks.rate("initial", initial)
    checks.number("factor", factor, above=0, at_most=1)
    checks.steps("every", every, at_least=1)

    def rate(step):
        drops, _ = whole(step, every)
        return real(initial) * jnp.exp(drops * log(factor))

    return as_schedule(rate)


METHOD = Method(
    {"initial": 0.8, "factor": 0.5, "every": 16},
    source="He, Zhang, Ren & Sun (2016)",
    over=lambda rate, total_steps: step_decay(
        rate, factor=0.1, every=max(total_steps // 3, 1)
    ),
)
