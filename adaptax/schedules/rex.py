"""REX: reflected exponential decay, which falls late.

    η_t = η_end + (η₀ − η_end) (1 − x) / (½ + ½ (1 − x)),    x = min(t/T, 1)

Source: Chen, Wolfe & Kyrillidis (2022), "REX: Revisiting Budgeted Training with an
Improved Schedule", with η_end = 0.
"""

from adaptax._core import checks
from adaptax._core.checks import Scalar
from adaptax._core.methods import Method
from adaptax._core.schedule import Schedule, as_schedule
from adaptax._core.words import translating
from adaptax.schedules.curves import between
from adaptax.schedules.periods import elapsed


@translating
def rex(initial: Scalar, total_steps: Scalar, *, end: Scalar = 0.0) -> Schedule:
    """Fall slowly at first, and faster towards the end.

    The rate is `initial` at step 0 and `end` from step T on.

    Args:
        initial: η₀ >= 0.
        total_steps: T >= 1, in steps.
        end: η_end, 0 <= η_end <= η₀.

    Raises:
        ValueError: If an argument is out of its range.
    """
    checks.rate("initial", initial)
    checks.steps("total_steps", total_steps, at_least=1)
    checks.rate("end", end)
    checks.at_most("end", end, "initial", initial)

    def rate(step):
        left = 1 - elapsed(step, 0, total_steps)
        return between(end, initial, left / (0.5 + 0.5 * left))

    return as_schedule(rate)


METHOD = Method(
    {"initial": 0.8, "total_steps": 40, "end": 0.1},
    source="Chen, Wolfe & Kyrillidis (2022)",
    differs="Optax has no REX.",
    over=lambda rate, total_steps: rex(rate, total_steps),
)
