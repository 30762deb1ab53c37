"""Warm-up before any schedule: a linear rise to its first rate.

    η_t = a + (η(0) − a) t/w    t < w,        η_t = η(t − w)    from step w

Source: Goyal et al. (2017), "Accurate, Large Minibatch SGD: Training ImageNet in 1
Hour".

The schedule starts w steps later than alone, as with `optax.join_schedules`. In
contrast, `total_steps` of `cosine` and `warmup_stable_decay` includes `warmup_steps`,
so that their end does not move.
"""

from adaptax._core import checks
from adaptax._core.checks import Scalar
from adaptax._core.methods import Method
from adaptax._core.schedule import Schedule, as_schedule
from adaptax._core.words import translating
from adaptax.schedules.algebra import StepToRate, evaluate, require_schedules
from adaptax.schedules.curves import between
from adaptax.schedules.linear import linear
from adaptax.schedules.periods import elapsed, since


@translating
def warmup(schedule: StepToRate, steps: Scalar, *, start: Scalar = 0.0) -> Schedule:
    """Rise linearly from `start` to the schedule's first rate, then follow it.

    The rate is `start` at step 0, and the schedule's own first rate at step w.

    Args:
        schedule: Any schedule, or a function of the step that takes arrays of steps.
        steps: w >= 0, the steps of the rise.
        start: a >= 0, a rate (not a fraction of the schedule's).

    Raises:
        TypeError: If `schedule` cannot be called.
        ValueError: If an argument is out of its range.

    >>> from adaptax.schedules import constant
    >>> schedule = warmup(constant(0.5), steps=4, start=0.1)
    >>> [round(float(schedule(step)), 4) for step in (0, 2, 4, 100)]
    [0.1, 0.3, 0.5, 0.5]
    """
    require_schedules(schedule)
    checks.steps("steps", steps)
    checks.rate("start", start)

    def rate(step):
        reached = evaluate(schedule, since(step, steps))
        return between(start, reached, elapsed(step, 0, steps))

    return as_schedule(rate)


METHOD = Method(
    {
        "schedule": linear(0.8, total_steps=30, end=0.1),
        "steps": 6,
        "start": 0.05,
    },
    source="Goyal et al. (2017)",
    over=lambda rate, total_steps: warmup(
        linear(rate, total_steps=total_steps - total_steps // 20),
        total_steps // 20,
    ),
)
