"""Combinations and transformations of schedules.

    join       η_t = ηᵢ(t − bᵢ)   for bᵢ <= t < bᵢ₊₁, b₀ = 0
    multiply   η_t = Π ηᵢ(t)
    stretch    η_t = η(t / c)
    offset     η_t = η(t − s)      and η(0) before step s
    clamp      η_t = min(max(η(t), η_low), η_high)

Each takes any schedule, or a function that returns the rates at an array of steps, and
its numbers may be traced. Controllers are not functions of the step: chain them.
"""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from adaptax._core import checks
from adaptax._core.checks import Scalar, require
from adaptax._core.scalars import real
from adaptax._core.schedule import Schedule, as_schedule
from adaptax.schedules.boundaries import Boundaries, passed, require_increasing
from adaptax.schedules.periods import since, whole

StepToRate: TypeAlias = Callable[[Any], Any]
"""A `Schedule`, or any function that returns the rates at an array of steps."""


def join(schedules: Sequence[StepToRate], boundaries: Boundaries) -> Schedule:
    """Run schedules one after the other, each from its own step 0.

    Args:
        schedules: One or more.
        boundaries: Increasing steps at which the next schedule starts, one fewer than
            the schedules.

    Raises:
        TypeError: If one of the schedules cannot be called.
        ValueError: If there is no schedule, or the boundaries have the wrong number or
            order.

    >>> from adaptax.schedules import constant, linear
    >>> schedule = join([constant(1.0), linear(1.0, total_steps=2)], boundaries=[3])
    >>> [float(schedule(step)) for step in range(6)]
    [1.0, 1.0, 1.0, 1.0, 0.5, 0.0]
    """
    require_schedules(*schedules)
    require_increasing(boundaries, len(schedules) - 1, "between each two schedules")

    def rate(step):
        index = passed(boundaries, step)
        joined = evaluate(schedules[0], step)
        for place, schedule in enumerate(schedules[1:], start=1):
            own = evaluate(schedule, since(step, boundaries[place - 1]))
            joined = jnp.where(index == place, own, joined)
        return joined

    return as_schedule(rate)


def multiply(*schedules: StepToRate) -> Schedule:
    """Multiply schedules.

    Args:
        schedules: One or more.

    Raises:
        TypeError: If one of the schedules cannot be called.
        ValueError: If there is none.
    """
    require_schedules(*schedules)

    def rate(step):
        rates = [evaluate(schedule, step) for schedule in schedules]
        return functools.reduce(operator.mul, rates)

    return as_schedule(rate)


def stretch(schedule: StepToRate, ratio: Scalar) -> Schedule:
    """Run a schedule more slowly, or faster.

    Args:
        schedule: A schedule that can be evaluated at fractions of a step.
        ratio: c > 0. 2 makes it last twice as long.

    Raises:
        TypeError: If `schedule` cannot be called.
        ValueError: If `ratio` is out of its range.
    """
    require_schedules(schedule)
    checks.number("ratio", ratio, above=0)

    def rate(step):
        # Whole steps of the schedule must be exact, since its rate may jump there.
        count, rest = whole(step, ratio)
        return evaluate(schedule, count + rest / real(ratio))

    return as_schedule(rate)


def offset(schedule: StepToRate, steps: Scalar) -> Schedule:
    """Start a schedule later, or in its middle.

    Args:
        schedule: Any schedule; before its start its first rate applies.
        steps: s, the delay in steps; if negative, the schedule skips so many.

    Raises:
        TypeError: If `schedule` cannot be called.
        ValueError: If `steps` is not a whole number.
    """
    require_schedules(schedule)
    checks.steps("steps", steps, at_least=None)
    return as_schedule(lambda step: evaluate(schedule, since(step, steps)))


def clamp(schedule: StepToRate, low: Scalar, high: Scalar) -> Schedule:
    """Keep the rate of a schedule between two bounds.

    Args:
        schedule: Any schedule.
        low: η_low >= 0.
        high: η_high >= η_low.

    Raises:
        TypeError: If `schedule` cannot be called.
        ValueError: If a bound is out of its range.
    """
    require_schedules(schedule)
    checks.rate("low", low)
    checks.rate("high", high)
    checks.at_most("low", low, "high", high)
    return as_schedule(
        lambda step: jnp.clip(evaluate(schedule, step), real(low), real(high))
    )


def require_schedules(*schedules: object) -> None:
    """Check that there are schedules, and that each can be called.

    Raises:
        TypeError: If one cannot.
        ValueError: If there is none.
    """
    require(len(schedules) > 0, "schedules must be one or more, got none.")
    for schedule in schedules:
        if not callable(schedule):
            raise TypeError(
                "a schedule must be a function step -> rate, such as one of adaptax or "
                f"Optax, got {schedule!r}. For a fixed rate use `constant`."
            )


def evaluate(schedule: StepToRate, step: jax.Array) -> jax.Array:
    """Return a schedule's rates at some steps, as float32."""
    return real(schedule(step))
