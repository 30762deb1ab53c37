"""Schedules: functions of the step that are rates as well."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adaptax._core import checks, counters
from adaptax._core.checks import Scalar, require
from adaptax._core.guards import require_like
from adaptax._core.handover import offer
from adaptax._core.leaves import (
    require_trainable,
)
from adaptax._core.scaling import scale_updates
from adaptax._core.words import translating, written

SHIFT = "schedule_shift"
"""The extra argument by which `steerable` moves the schedules inside: a `Shift`."""


class Shift(NamedTuple):
    """How far a schedule is ahead of its own step: whole steps, and a part in [0, 1).

    The two are apart because a float32 cannot count steps beyond 2²⁴.
    """

    steps: jax.Array
    part: jax.Array


class ScheduleState(NamedTuple):
    """The state of a schedule.

    `step` is the index of the next update, from 0. `learning_rate` is the last rate
    applied; before the first update, the first rate. `invalid` counts the rates that
    were not finite, which are replaced by the previous rate, or negative, replaced
    by 0.
    """

    step: jax.Array
    learning_rate: jax.Array
    invalid: jax.Array

    def has_unit(self) -> bool:
        """Return True: a rate by itself; see `adaptax._core.seats`."""
        return True


class ConstantState(NamedTuple):
    """The state of `constant`: a `ScheduleState`, and the `value` it was made with."""

    step: jax.Array
    learning_rate: jax.Array
    invalid: jax.Array
    value: jax.Array

    def has_unit(self) -> bool:
        """Return True: a rate by itself; see `adaptax._core.seats`."""
        return True


class Schedule(optax.GradientTransformationExtraArgs):
    """A rate that is a function of the step.

    It is a transformation that can also be called: `schedule(step)` returns the rate at
    a step or an array of steps (negative steps count as 0), so it can be used wherever
    Optax takes a schedule. For `optax.inject_hyperparams`, which keeps the state
    itself, `schedule(state)` returns the rate of the next update, `schedule.init()`
    needs no parameters, and `schedule.update(state)` advances the state.

    `jax.jit`, `jax.eval_shape` and `jax.lax.cond` do not accept a tuple as a function:
    write `jax.jit(lambda step: schedule(step))`.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        """Return the call that made it."""
        return written(self) or "<schedule>"

    def __call__(self, step: Any, **extra_args: Any) -> jax.Array:
        """Return the rate at a step, or the next rate of a state.

        Raises:
            ValueError: If the step is an integer too large for JAX's default integers.
        """
        del extra_args
        before: Any = step if isinstance(step, tuple) else self._state_at(step)
        after: Any = self.update((), before)[1]
        return jnp.broadcast_to(after.learning_rate, before.step.shape)

    def _state_at(self, step: Any) -> Any:
        limit = jnp.iinfo(jnp.result_type(int)).max
        if isinstance(step, int | np.integer) or (
            isinstance(step, np.ndarray) and np.issubdtype(step.dtype, np.integer)
        ):
            require(
                bool(np.all(np.asarray(step) <= limit)),
                f"step must be <= {limit}, got {step}. Pass it as a float instead.",
            )
        step = jnp.maximum(jnp.asarray(step), 0)
        return cast(Any, self.init)()._replace(step=step)


def as_schedule(function: Callable[[jax.Array], Any]) -> Schedule:
    """Make a schedule of a function that returns the rate at a step.

    Args:
        function: Takes the step, an int32 scalar from 0 (or an array of steps), and
            returns a rate of the same shape. It is traced: side effects happen once,
            when the program is compiled.

    Raises:
        ValueError: When first used, if the rate's shape is not the step's.
        TypeError: When first used, if the rate is not real.
    """

    def init(params=None):
        require_trainable(params)
        step, zero = counters.zero(), jnp.zeros((), jnp.float32)
        state = ScheduleState(step, zero, counters.zero())
        return _applied(_evaluate(function, step), state)

    def advance(state, shift=None):
        rate = partial(_evaluate, function)
        step = state.step
        now = rate(step) if shift is None else _shifted(rate, step, shift)
        state = _applied(now, state)
        return state._replace(step=counters.increment(state.step))

    return _schedule(init, advance)


@translating
def constant(value: Scalar) -> Schedule:
    """Make a constant rate, η_t = η₀, which `set_learning_rate` can change.

    Source: Widrow & Hoff (1960), "Adaptive Switching Circuits", IRE WESCON 4.

    The rate in the state applies as long as `value` is the one that the state was made
    with. A different `value` replaces it: a traced scalar may change from call to call,
    and a rate changed in the code overrides that of a restored state.

    Args:
        value: η₀ >= 0.

    Raises:
        TypeError: If `value` is not a real number.
        ValueError: If it is negative, not finite, or not a scalar.

    >>> float(constant(0.5)(10))
    0.5
    """
    checks.rate("learning_rate", value)

    def given():
        return jnp.asarray(value).astype(jnp.float32)

    def init(params=None):
        require_trainable(params)
        zero = jnp.zeros((), jnp.float32)
        state = ConstantState(counters.zero(), zero, counters.zero(), given())
        return _applied(given(), state)

    def advance(state, shift=None):
        del shift
        rate = jnp.where(given() == state.value, state.learning_rate, given())
        state = _applied(rate, state)
        step = counters.increment(state.step)
        value = jnp.where(jnp.isfinite(given()), given(), state.value)
        return state._replace(step=step, value=value)

    return _schedule(init, advance)


def _schedule(init: Callable[..., Any], advance: Callable[..., Any]) -> Schedule:
    """Make a schedule of its initial state and the transition to the next."""

    def update(updates, state=None, params=None, **extra_args):
        if state is None:  # optax.inject_hyperparams: the state alone
            return advance(updates)
        require_like(updates, params)
        state = advance(state, extra_args.get(SHIFT))
        return scale_updates(updates, state.learning_rate), state

    def converted(theirs):
        initial = init()
        before = initial._replace(step=jnp.maximum(theirs.count - 1, 0))
        after = advance(before)
        return jax.tree.map(
            lambda new, old: jnp.where(theirs.count > 0, new, old), after, initial
        )

    def offering_init(params=None):
        return offer(init(params), {"ScaleByScheduleState": converted})

    return Schedule(offering_init, update)


def _evaluate(function: Callable[[jax.Array], Any], step: jax.Array) -> jax.Array:
    rate = jnp.asarray(function(step))
    if jnp.issubdtype(rate.dtype, jnp.complexfloating):
        raise TypeError(f"a schedule must return a real rate, got dtype {rate.dtype}.")
    require(
        rate.shape in ((), step.shape),
        f"a schedule must return a rate of the step's shape {step.shape}, "
        f"got {rate.shape}.",
    )
    return rate.astype(jnp.float32)


def _shifted(rate: Callable[[Any], Any], step: jax.Array, shift: Shift) -> jax.Array:
    """Return the rate at a shifted step, linear between two whole steps.

    A function of the step is only asked for whole ones, so it may index a table.
    """
    step = jnp.maximum(step + shift.steps, 0)
    here, following = rate(step), rate(counters.increment(step))
    between = (1 - shift.part) * here + shift.part * following
    return jnp.where(shift.part > 0, between, here)


def _applied(rate: jax.Array, state: Any) -> Any:
    """Store a rate in a state: 0 if negative, the previous rate if not finite."""
    finite = jnp.isfinite(rate)
    invalid = counters.increment(state.invalid, where=~finite | (rate < 0))
    rate = jnp.where(finite, jnp.maximum(rate, 0), state.learning_rate)
    return state._replace(learning_rate=rate, invalid=invalid)
