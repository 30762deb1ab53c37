"""Rates: how far a step goes.

A rate is a gradient transformation that multiplies the updates by one scalar and keeps
the scalar it applied in its state, under the name `learning_rate` (float32). Rates
multiply: a controller after a schedule scales the schedule's rate.

    rate in (0, ∞),   updates ← rate · updates

A `Schedule` is a function of the step, a `Controller` follows training. `descend`
accepts rates in all their forms, and refuses anything else.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adaptax._core import checks, counters, seats
from adaptax._core.checks import Scalar, require
from adaptax._core.guards import require_like
from adaptax._core.handover import offer
from adaptax._core.leaves import (
    computing_dtype,
    dtype_of,
    narrowed,
    require_trainable,
    times,
)
from adaptax._core.words import translating, written

OneRate: TypeAlias = Scalar | Callable[..., Any] | optax.GradientTransformation
"""A number, a traced scalar, a function `step -> rate`, or a transformation."""

LearningRate: TypeAlias = OneRate | Sequence[OneRate]
"""The argument `learning_rate`: a rate, or a list or tuple of rates, which multiply."""


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


class Rate(optax.GradientTransformationExtraArgs):
    """A rate that is not a function of the step: a controller or an estimate."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Return the call that made it."""
        return written(self) or "<rate>"

    def __mul__(self, other: Any) -> NoReturn:
        """Refuse multiplication, which Optax tries on any `learning_rate`."""
        raise TypeError(
            "Optax takes a number or a function of the step as learning_rate, and a "
            "rate that follows training is neither. Put it after the optimizer: "
            "optax.chain(optax.adam(1e-3), rate); or pass it to adaptax's: "
            "adaptax.adam([1e-3, rate])."
        )

    __rmul__ = __mul__


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

    def advance(state):
        state = _applied(_evaluate(function, state.step), state)
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

    def advance(state):
        rate = jnp.where(given() == state.value, state.learning_rate, given())
        state = _applied(rate, state)
        step = counters.increment(state.step)
        value = jnp.where(jnp.isfinite(given()), given(), state.value)
        return state._replace(step=step, value=value)

    return _schedule(init, advance)


def _schedule(init: Callable[..., Any], advance: Callable[[Any], Any]) -> Schedule:
    """Make a schedule of its initial state and the transition to the next."""

    def update(updates, state=None, params=None, **extra_args):
        del extra_args
        if state is None:  # optax.inject_hyperparams: the state alone
            return advance(updates)
        require_like(updates, params)
        state = advance(state)
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


def as_rate(
    learning_rate: LearningRate, *, needs_unit: bool = False
) -> optax.GradientTransformationExtraArgs:
    """Make a rate of an argument `learning_rate`.

    Args:
        learning_rate: Any `LearningRate`.
        needs_unit: Whether to refuse controllers that only multiply another rate. For
            methods that infer their rate, `learning_rate` is a factor, and they are
            accepted.

    Raises:
        TypeError: If it is not a `LearningRate`.
        ValueError: If it is a number that is negative, not finite or not a scalar, or a
            transformation that is not a rate, such as a whole optimizer.
    """
    if needs_unit:
        rate = as_rate(learning_rate)
        _require_unit([rate])
        return rate
    if _is_product(learning_rate):
        members = list(map(as_rate, cast(Sequence[OneRate], learning_rate)))
        return members[0] if len(members) == 1 else optax.chain(*members)
    if isinstance(learning_rate, optax.GradientTransformation):
        if not isinstance(learning_rate, Schedule):
            seats.require_rate(learning_rate)
        return optax.with_extra_args_support(learning_rate)
    if callable(learning_rate):
        return as_schedule(learning_rate)
    try:
        return constant(cast(Scalar, learning_rate))
    except TypeError:
        raise TypeError(
            "learning_rate must be a number, a traced scalar, a function step -> rate, "
            "a gradient transformation, or a list of these, which multiply (not of "
            f"numbers only), got {learning_rate!r}. To try many rates, vmap over them."
        ) from None


def _is_product(learning_rate: Any) -> bool:
    """Return whether it is a sequence of rates; one of only numbers is a mistake."""
    return type(learning_rate) in (list, tuple) and any(
        callable(member) or isinstance(member, list | tuple) for member in learning_rate
    )


def descend(*learning_rates: LearningRate) -> optax.GradientTransformationExtraArgs:
    """Multiply the updates by every rate, and by −1.

    Args:
        learning_rates: One or more of: a number, a traced scalar, a function
            `step -> rate`, a gradient transformation (a schedule, a controller, an
            estimate, a chain of them), or a list of these. All of them multiply.

    Raises:
        TypeError: If there is none, or one is none of these.
        ValueError: If one is not a rate, such as a whole optimizer, which has its own
            minus sign; or if all are controllers that only multiply another rate.

    >>> import optax
    >>> tx = descend(0.5, optax.cosine_decay_schedule(1.0, decay_steps=100))
    >>> updates, state = tx.update(1.0, tx.init(1.0))
    >>> float(updates)
    -0.5
    """
    if not learning_rates:
        raise TypeError("descend needs at least one learning rate.")
    rates = list(map(as_rate, learning_rates))
    _require_unit(rates)
    return optax.chain(*rates, optax.stateless(negate))


def _require_unit(rates: Sequence[optax.GradientTransformation]) -> None:
    if not any(isinstance(rate, Schedule) for rate in rates):
        seats.require_unit(optax.chain(*rates))


class Seat(NamedTuple):
    """A learning rate that is read as a scalar; see `seat`."""

    init: Callable[[], Any]
    read: Callable[..., tuple[jax.Array, Any]]


def seat(learning_rate: LearningRate, *, needs_unit: bool = False) -> Seat:
    """Prepare a learning rate for a method that needs its value.

    Args:
        learning_rate: As in `descend`, except rates that follow gradients: it is
            applied to the number 1, not to updates.
        needs_unit: See `as_rate`.

    Returns:
        `init()`, which returns the rate's state, and `read(state, **extra_args)`, which
        returns the rate to apply, a float32 scalar, and the rate's next state.
    """
    rate = as_rate(learning_rate, needs_unit=needs_unit)

    def one():
        return jnp.ones((), jnp.float32)

    def init():
        return rate.init(one())

    def read(state, **extra_args):
        scale, state = rate.update(one(), state, one(), **extra_args)
        return cast(jax.Array, scale), state

    return Seat(init, read)


def scale_updates(updates: optax.Updates, scale: jax.Array) -> optax.Updates:
    """Multiply every real or complex leaf by a scalar, keeping its dtype.

    A product too large for the dtype is clipped to its largest number. An infinite
    update stays infinite, so that a guard around the chain can detect it.
    """

    def multiply(leaf):
        if not jnp.issubdtype(dtype_of(leaf), jnp.inexact):
            return leaf
        dtype = dtype_of(leaf)
        wide = computing_dtype(dtype)
        product = times(jnp.asarray(leaf).astype(wide), scale)
        if wide == dtype:
            return product
        return jnp.where(
            jnp.isinf(leaf), product.astype(dtype), narrowed(product, dtype)
        )

    return jax.tree.map(multiply, updates)


def negate(updates: optax.Updates, params: optax.Params | None) -> optax.Updates:
    """Negate real and complex updates, for `optax.stateless`."""
    del params
    return jax.tree.map(
        lambda leaf: -leaf if jnp.issubdtype(dtype_of(leaf), jnp.inexact) else leaf,
        updates,
    )


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


def _applied(rate: jax.Array, state: Any) -> Any:
    """Store a rate in a state: 0 if negative, the previous rate if not finite."""
    finite = jnp.isfinite(rate)
    invalid = counters.increment(state.invalid, where=~finite | (rate < 0))
    rate = jnp.where(finite, jnp.maximum(rate, 0), state.learning_rate)
    return state._replace(learning_rate=rate, invalid=invalid)
