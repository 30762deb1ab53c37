"""Cosine: a linear warm-up, then half a period of a cosine down to the end value.

    η_t = η_peak t/w                                            t < w
    η_t = η_end + ½ (η_peak − η_end) (1 + cos π(t − w)/(T − w))     w <= t <= T

Source: Loshchilov & Hutter (2017), "SGDR: Stochastic Gradient Descent with Warm
Restarts"; the warm-up is that of Goyal et al. (2017), "Accurate, Large Minibatch SGD".

T includes the warm-up, as in `optax.warmup_cosine_decay_schedule`. In Keras's
`CosineDecay` it does not, and α is `end=α * peak`.
"""

from adaptax._core import checks
from adaptax._core.checks import Scalar
from adaptax._core.methods import Method
from adaptax._core.scalars import real
from adaptax._core.schedule import Schedule, as_schedule
from adaptax._core.words import translating
from adaptax.schedules.curves import between, half_cosine
from adaptax.schedules.periods import elapsed


@translating
def cosine(
    peak: Scalar, total_steps: Scalar, *, warmup_steps: Scalar = 0, end: Scalar = 0.0
) -> Schedule:
    """Warm up, then fall along half a cosine.

    The rate is `peak` at step w and `end` from step T on; at step 0 it is 0 if there is
    a warm-up.

    Args:
        peak: η_peak >= 0.
        total_steps: T >= 1, in steps, the warm-up included.
        warmup_steps: w, 0 <= w <= T, the steps of a linear rise from 0.
        end: η_end, 0 <= η_end <= η_peak.

    Raises:
        ValueError: If an argument is out of its range.

    >>> schedule = cosine(peak=0.1, total_steps=100, warmup_steps=10)
    >>> [round(float(schedule(step)), 4) for step in (0, 5, 10, 55, 100, 1000)]
    [0.0, 0.05, 0.1, 0.05, 0.0, 0.0]
    """
    checks.rate("peak", peak)
    checks.steps("total_steps", total_steps, at_least=1)
    checks.steps("warmup_steps", warmup_steps)
    checks.at_most("warmup_steps", warmup_steps, "total_steps", total_steps)
    checks.rate("end", end)
    checks.at_most("end", end, "peak", peak)

    def rate(step):
        risen = real(peak) * elapsed(step, 0, warmup_steps)
        fall = elapsed(step, warmup_steps, total_steps)
        return between(risen, end, half_cosine(fall))

    return as_schedule(rate)


METHOD = Method(
    {"peak": 0.8, "total_steps": 40, "warmup_steps": 5, "end": 0.1},
    source="Loshchilov & Hutter (2017)",
    over=lambda rate, total_steps: cosine(
        rate, total_steps, warmup_steps=total_steps // 20
    ),
)
