"""Linear: the rate changes linearly to its end value.

    η_t = η₀ + (η_end − η₀) min(t/T, 1)

Source: Defazio et al. (2023), "When, Why and How Much? Adaptive Learning Rate
Scheduling by Refinement", where it is the theoretical default.
"""

from adaptax._core import checks
from adaptax._core.checks import Scalar
from adaptax._core.methods import Method
from adaptax._core.schedule import Schedule, as_schedule
from adaptax._core.words import translating
from adaptax.schedules.curves import between
from adaptax.schedules.periods import elapsed


@translating
def linear(initial: Scalar, *, total_steps: Scalar, end: Scalar = 0.0) -> Schedule:
    """Change linearly from one rate to another.

    The rate is `initial` at step 0 and `end` from step T on. The last of T updates, at
    step T − 1, still has a rate above 0 where `end` is 0.

    Args:
        initial: η₀ >= 0.
        total_steps: T >= 1, in steps.
        end: η_end >= 0; greater than η₀ for a rise.

    Raises:
        ValueError: If an argument is out of its range.

    >>> schedule = linear(1.0, total_steps=4)
    >>> [float(schedule(step)) for step in range(6)]
    [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """
    checks.rate("initial", initial)
    checks.steps("total_steps", total_steps, at_least=1)
    checks.rate("end", end)

    def rate(step):
        return between(initial, end, elapsed(step, 0, total_steps))

    return as_schedule(rate)


METHOD = Method(
    {"initial": 0.8, "total_steps": 40, "end": 0.1},
    source="Defazio et al. (2023)",
    over=lambda rate, total_steps: linear(rate, total_steps=total_steps),
)
