"""Refinement: a schedule computed from the gradient norms of an earlier run.

    Ĝ = moving median of G over 2⌊n/20⌋ + 1 norms
    w_i = Ĝ_i⁻²   (L2 norms, for SGD)    or    Ĝ_i⁻¹   (L1 norms, for Adam)
    η_i = w_i Σ_{j > i} w_j,    scaled so that the highest is η_peak

Constant norms give a linear decay. Norms that fall towards the end of training, as they
usually do, give a warm-up and a faster decay.

Source: Defazio et al. (2023), "When, Why and How Much? Adaptive Learning Rate
Scheduling by Refinement", algorithm 1.
"""

import functools
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from adaptax._core import checks
from adaptax._core.checks import Scalar, require
from adaptax._core.methods import Method
from adaptax._core.scalars import known, real
from adaptax._core.schedule import Schedule, as_schedule
from adaptax._core.words import translating
from adaptax.schedules.curves import between
from adaptax.schedules.periods import elapsed

Norm = Literal["l2", "l1"]
Padding = Literal["reflect", "nearest"]

_FLOOR = 1e-6


@translating
def refine(
    grad_norms: Sequence[Scalar] | np.ndarray | jax.Array,
    peak: Scalar = 1.0,
    total_steps: Scalar | None = None,
    *,
    norm: Norm = "l2",
    padding: Padding = "reflect",
) -> Schedule:
    """Make a schedule from the gradient norms of an earlier run.

    The rate is 0 from its last entry on, at step T − T/n.

    Args:
        grad_norms: G >= 0, shape (n,), n >= 2, equally spaced over the run. A few
            thousand are enough; the moving median of more takes long.
        peak: η_peak >= 0, the highest rate. With 1, the schedule is a factor for the
            rate that the earlier run was tuned to.
        total_steps: T >= 1, the steps to spread the schedule over, linear between
            entries. By default n: one entry per step.
        norm: "l2" or "l1": the norm of the gradients. Structural.
        padding: "reflect" or "nearest": the values beyond both ends for the median.
            Structural.

    Raises:
        ValueError: If an argument is out of its range.

    Norms below 1e-6 of the highest are raised to that.

    >>> schedule = refine([3.0, 3.0, 3.0, 3.0, 3.0], peak=0.1)
    >>> [round(float(schedule(step)), 4) for step in range(6)]
    [0.1, 0.075, 0.05, 0.025, 0.0, 0.0]
    """
    size = len(grad_norms)
    require(size >= 2, f"grad_norms must be 2 or more, got {size}.")
    if known(grad_norms):
        given = np.asarray(grad_norms, np.float64)
        require(given.ndim == 1, f"grad_norms must have shape (n,), got {given.shape}.")
        wrong = given[~(np.isfinite(given) & (given >= 0))]
        require(
            wrong.size == 0,
            f"grad_norms must be finite and >= 0, got {wrong[:3]} among them. "
            "Leave out the steps that failed.",
        )
    checks.rate("peak", peak)
    if total_steps is not None:
        checks.steps("total_steps", total_steps, at_least=1)
    checks.one_of("norm", norm, Norm)
    checks.one_of("padding", padding, Padding)
    shape = _shape(real(grad_norms), 2 if norm == "l2" else 1, padding)

    def rate(step):
        place = real(step)
        if total_steps is not None:
            place = elapsed(step, 0, total_steps) * size
        index = jnp.minimum(place, size - 1).astype(jnp.int32)
        following = jnp.take(shape, jnp.minimum(index + 1, size - 1))
        part = jnp.minimum(place - real(index), 1)
        return real(peak) * between(jnp.take(shape, index), following, part)

    return as_schedule(rate)


@functools.partial(jax.jit, static_argnames=("power", "padding"))
def _shape(norms, power, padding):
    """Return η, scaled to a maximum of 1."""
    smooth = _moving_median(norms, norms.shape[0] // 20, padding)
    highest = jnp.max(smooth)
    relative = smooth / jnp.where(highest > 0, highest, 1)
    weights = jnp.maximum(relative, _FLOOR) ** -power
    later = jnp.cumsum(weights[:0:-1])[::-1]
    rates = weights * jnp.append(later, 0)
    return rates / jnp.max(rates)


def _moving_median(values, half_width, padding):
    mode = "edge" if padding == "nearest" else "symmetric"
    padded = jnp.pad(values, half_width, mode=mode)

    def median(place):
        width = 2 * half_width + 1
        return jnp.median(jax.lax.dynamic_slice(padded, (place,), (width,)))

    return jax.lax.map(median, jnp.arange(values.shape[0]), batch_size=256)


METHOD = Method(
    {
        "grad_norms": tuple(3.0 - 0.1 * i + (i % 3) / 2 for i in range(24)),
        "peak": 0.8,
        "total_steps": 60,
    },
    source="Defazio et al. (2023)",
    variants=({"norm": "l1"}, {"padding": "nearest"}),
    differs="Optax has no refinement.",
)
