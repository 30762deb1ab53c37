"""One cycle: a rise from a low rate to the peak, then a long fall to almost 0.

    η_t = η_first + (η_peak − η_first) c(t/φT)                  t < φT
    η_t = η_peak + (η_last − η_peak) c((t − φT)/(T − φT))       φT <= t <= T
    η_first = η_peak/d,    η_last = η_first/D,    c(x) = ½ (1 − cos πx)    or    x

Source: Smith & Topin (2018), "Super-Convergence: Very Fast Training of Neural Networks
Using Large Learning Rates", in the two phases of fast.ai and PyTorch.

The peak is at step φT and the end at step T, as in `optax.cosine_onecycle_schedule`
(which rounds φT down). In PyTorch's `OneCycleLR` with T >= 2 steps both are one step
earlier: it is `one_cycle(peak, total_steps=T - 1, start_fraction=(φ * T - 1) / (T -
1))`. This fraction is negative if φT < 1: the peak lies before step 0. With φ = 1,
PyTorch's last step is at the peak, and here it is at the end.
"""

from typing import Literal

from adaptax._core import checks
from adaptax._core.checks import Scalar
from adaptax._core.methods import Method
from adaptax._core.scalars import real
from adaptax._core.schedule import Schedule, as_schedule
from adaptax._core.words import translating
from adaptax.schedules.curves import between, half_cosine
from adaptax.schedules.periods import elapsed

Anneal = Literal["cosine", "linear"]


@translating
def one_cycle(
    peak: Scalar,
    *,
    total_steps: Scalar,
    start_fraction: Scalar = 0.3,
    div_factor: Scalar = 25.0,
    final_div_factor: Scalar = 1e4,
    anneal: Anneal = "cosine",
) -> Schedule:
    """Rise to the peak, then fall below the first rate.

    The fall has one phase, even with `anneal="linear"`; in
    `optax.linear_onecycle_schedule` it has two. In PyTorch the peak and the end are one
    step earlier.

    The rate is `peak / div_factor` at step 0, `peak` at step φT, and
    `peak / div_factor / final_div_factor` from step T on.

    Args:
        peak: η_peak >= 0.
        total_steps: T >= 1, in steps.
        start_fraction: φ, −1 <= φ <= 1, the fraction of the steps in which the rate
            rises. If negative, the rate starts in its fall from a peak at step φT.
        div_factor: d >= 1, the peak over the first rate.
        final_div_factor: D >= 1, the first rate over the last.
        anneal: "cosine" or "linear", for both phases. Structural.

    Raises:
        ValueError: If an argument is out of its range.
    """
    checks.rate("peak", peak)
    checks.steps("total_steps", total_steps, at_least=1)
    checks.number("start_fraction", start_fraction, at_least=-1, at_most=1)
    checks.number("div_factor", div_factor, at_least=1)
    checks.number("final_div_factor", final_div_factor, at_least=1)
    checks.one_of("anneal", anneal, Anneal)
    curve = half_cosine if anneal == "cosine" else lambda part: part

    def rate(step):
        peak_step = real(start_fraction) * real(total_steps)
        start = real(peak) / real(div_factor)
        end = start / real(final_div_factor)
        risen = between(start, peak, curve(elapsed(step, 0, peak_step)))
        return between(risen, end, curve(elapsed(step, peak_step, total_steps)))

    return as_schedule(rate)


METHOD = Method(
    {
        "peak": 0.8,
        "total_steps": 40,
        "start_fraction": 0.25,
        "div_factor": 5.0,
        "final_div_factor": 10.0,
    },
    source="Smith & Topin (2018)",
    variants=({"anneal": "linear"},),
    over=lambda rate, total_steps: one_cycle(rate, total_steps=total_steps),
)
