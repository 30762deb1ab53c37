"""`cyclic`: its equations as a NumPy loop, and what is asked of it."""

from conformance.contracts import Contract, Goal


def reference(
    step, *, low, high, half_cycle, fall_steps=None, mode="triangular", gamma=1.0
):
    """The formulas as printed by Smith (2017), each half of its own length."""
    fall = fall_steps or half_cycle
    cycle = 1 + step // (half_cycle + fall)
    x = step % (half_cycle + fall)
    height = (high - low) * min(x / half_cycle, 1 - (x - half_cycle) / fall)
    scales = {
        "triangular": 1,
        "triangular2": 2.0 ** (1 - cycle),
        "exp_range": gamma**step,
    }
    return low + height * scales[mode]


CONTRACT = Contract(
    reference,
    goals={"quadratic": Goal(200, 1e-2)},
)
