"""Warm-up, stable, decay: a trapezoid with a plateau of any length.

    η_t = η_peak t/w                              t < w
    η_t = η_peak                                  w <= t < T − d
    η_t = η_end + (η_peak − η_end) g(x)           x = min((t − T + d)/d, 1)

    g(x) = 1 − x (linear),    ½ (1 + cos πx) (cosine),    1 − √x (sqrt),
           1 − x² (square),   2 (1 − x) − ½ (1 + cos πx) (mirror_cosine),
           (κˣ − κ)/(1 − κ) (exponential)

κ = 0.01: the exponential falls to a hundredth, shifted so that it ends at η_end.

Source: Hu et al. (2024), "MiniCPM: Unveiling the Potential of Small Language Models
with Scalable Training Strategies"; the shapes are from Hägele et al. (2024), "Scaling
Laws and Compute-Optimal Training Beyond Fixed Training Durations", where 1 − √x was the
best.
"""

from adaptax._core import checks
from adaptax._core.checks import Scalar, require
from adaptax._core.methods import Method
from adaptax._core.scalars import known, real
from adaptax._core.schedule import Schedule, as_schedule
from adaptax._core.words import translating
from adaptax.schedules.curves import FALLS, Fall, between
from adaptax.schedules.periods import elapsed


@translating
def warmup_stable_decay(
    peak: Scalar,
    total_steps: Scalar,
    *,
    warmup_steps: Scalar,
    decay_steps: Scalar,
    shape: Fall = "linear",
    end: Scalar = 0.0,
) -> Schedule:
    """Warm up, stay at the peak, then cool down.

    The rate is 0 at step 0 (`peak` without a warm-up), `peak` from step w to step T −
    d, and `end` from step T on.

    Args:
        peak: η_peak >= 0.
        total_steps: T >= 1, in steps.
        warmup_steps: w >= 0, the steps of a linear rise from 0.
        decay_steps: d >= 0, the steps of the cool-down; w + d <= T.
        shape: "linear", "cosine", "mirror_cosine", "sqrt", "square" or "exponential".
            Structural.
        end: η_end, 0 <= η_end <= η_peak.

    Raises:
        ValueError: If an argument is out of its range.
    """
    checks.rate("peak", peak)
    checks.steps("total_steps", total_steps, at_least=1)
    checks.steps("warmup_steps", warmup_steps)
    checks.steps("decay_steps", decay_steps)
    if known(total_steps, warmup_steps, decay_steps):
        require(
            float(warmup_steps) + float(decay_steps) <= float(total_steps),
            f"warmup_steps + decay_steps must be <= total_steps, got {warmup_steps} + "
            f"{decay_steps} > {total_steps}.",
        )
    checks.one_of("shape", shape, Fall)
    checks.rate("end", end)
    checks.at_most("end", end, "peak", peak)

    def rate(step):
        risen = real(peak) * elapsed(step, 0, warmup_steps)
        decay_start = real(total_steps) - real(decay_steps)
        part = elapsed(step, decay_start, total_steps)
        return between(end, risen, FALLS[shape](part))

    return as_schedule(rate)


METHOD = Method(
    {
        "peak": 0.8,
        "total_steps": 40,
        "warmup_steps": 5,
        "decay_steps": 20,
        "end": 0.1,
    },
    source="Hu et al. (2024)",
    variants=(
        {"shape": "cosine"},
        {"shape": "mirror_cosine"},
        {"shape": "sqrt"},
        {"shape": "square"},
        {"shape": "exponential"},
    ),
    over=lambda rate, total_steps: warmup_stable_decay(
        rate,
        total_steps,
        warmup_steps=total_steps // 20,
        decay_steps=total_steps // 5,
        shape="sqrt",
    ),
)
