"""`one_cycle`: its equations as a NumPy loop, and what is asked of it."""

import math

import optax
from conformance.contracts import Contract, Goal


def reference(
    step,
    *,
    peak,
    total_steps,
    start_fraction=0.3,
    div_factor=25.0,
    final_div_factor=1e4,
    anneal="cosine",
):
    """From η_peak/d to η_peak in φT steps, then to η_peak/(d D) at step T."""
    turn = start_fraction * total_steps
    first = peak / div_factor
    last = first / final_div_factor
    if step >= total_steps:
        return last
    if step < turn:
        left, right, part = first, peak, step / turn
    else:
        left, right, part = peak, last, (step - turn) / (total_steps - turn)
    if anneal == "cosine":
        return right + (left - right) * (1 + math.cos(math.pi * part)) / 2
    return left + (right - left) * part


CONTRACT = Contract(
    reference,
    optax_forms=(
        "optax.cosine_onecycle_schedule",
        "optax.linear_onecycle_schedule",
    ),
    optax_twin=lambda: optax.cosine_onecycle_schedule(40, 0.8, 0.25, 5.0, 10.0),
    goals={"quadratic": Goal(200, 1e-2, {"total_steps": 200})},
)
