"""Rates: how far a step goes.

A rate is a gradient transformation that multiplies the updates by one scalar and keeps
that scalar, as applied, in its state under the name `learning_rate` (float32). Rates
multiply: a controller after a schedule scales what the schedule gives.

    rate in (0, ∞),   updates ← rate · updates

A `Schedule` is a function of the step, a `Controller` follows training. `descend` is
the one seat where a learning rate enters an optimizer, and refuses what is no rate.
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
"""What a seat takes: a rate, or a list or tuple of rates, which multiply."""


class ScheduleState(NamedTuple):
    """The state of a schedule.

    `step` is that of the next update, from 0; `learning_rate` is the last rate applied
    or, before any, the first; `invalid` counts the rates that were not finite, for
    which the rate before was kept, or negative, for which 0 was.
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
    """A rate that is no function of the step, such as a controller or an estimate."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Return the call that made it."""
        return written(self) or "<rate>"

    def __mul__(self, other: Any) -> NoReturn:
        """Refuse to be multiplied, as Optax does with what it takes for a number."""
        raise TypeError(
            "a rate that follows training is no number and no function of the step, "
            "which is all that Optax takes as a learning_rate. Put it behind the "
            "optimizer: optax.chain(optax.adam(1e-3), rate); or give it to adaptax's: "
            "adaptax.adam([1e-3, rate])."
        )

    __rmul__ = __mul__


class Schedule(optax.GradientTransformationExtraArgs):
    """A rate that is a function of the step.

    It is a transformation and can also be called: `schedule(step)` gives the rate, for
    one step or an array of steps (a negative one counts as 0), so it goes wherever
    Optax takes a schedule. For `optax.inject_hyperparams`, which keeps the state
    itself, `schedule(state)` gives the rate that the next update applies,
    `schedule.init()` needs no parameters, and `schedule.update(state)` advances the
    state.

    `jax.jit`, `jax.eval_shape` and `jax.lax.cond` refuse to be given a tuple to call:
    write `jax.jit(lambda step: schedule(step))`.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        """Return the call that made it."""
        return written(self) or "<schedule>"

    def __call__(self, step: Any, **extra_args: Any) -> jax.Array:
        """Return the rate at a step, or the one that a state applies next.

        Raises:
            ValueError: If the step is a number too large for the integers in use.
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
                f"step must be <= {limit}, got {step}. Give it as a float instead.",
            )
        step = jnp.maximum(jnp.asarray(step), 0)
        return cast(Any, self.init)()._replace(step=step)


def as_schedule(function: Callable[[jax.Array], Any]) -> Schedule:
    """Make a schedule of a function that gives the rate at a step.

    Args:
        function: Takes the step, an int32 scalar from 0 (or an array of steps), and
            gives a rate of the same shape. It is traced: side effects happen once, when
            the program is compiled.

    Raises:
        ValueError: When first used, if the rate has another shape than the step.
        TypeError: Likewise, if it is not real.
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
    """Keep one rate, η_t = η₀, in the state, where `set_learning_rate` changes it.

    Source: Widrow & Hoff (1960), "Adaptive Switching Circuits", IRE WESCON 4.

    The rate in the state is used as long as `value` is the one the state was made with.
    Another `value` takes over: a traced scalar is followed from call to call, and a
    restored state does not outvote a rate that was changed in the code.

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
    """Make a schedule of its state and the way from one state to the next."""

    def update(updates, state=None, params=None, **extra_args):
        del extra_args
        if state is None:  # optax.inject_hyperparams: the state alone
            return advance(updates)
        require_like(updates, params)
        state = advance(state)
        return scale_updates(updates, state.learning_rate), state

    def taken(theirs):
        begun = init()
        before = begun._replace(step=jnp.maximum(theirs.count - 1, 0))
        after = advance(before)
        return jax.tree.map(
            lambda new, old: jnp.where(theirs.count > 0, new, old), after, begun
        )

    def offered(params=None):
        return offer(init(params), {"ScaleByScheduleState": taken})

    return Schedule(offered, update)


def as_rate(
    learning_rate: LearningRate, *, needs_unit: bool = False
) -> optax.GradientTransformationExtraArgs:
    """Make a rate of whatever a seat takes.

    Args:
        learning_rate: What stands in the seat.
        needs_unit: Whether to refuse controllers that only multiply another rate. A
            method that infers its rate has a factor in its seat, and need not.

    Raises:
        TypeError: If it is none of the things listed at `LearningRate`.
        ValueError: If it is a number that is negative, not finite or not a scalar, or a
            transformation that is no rate, such as a whole optimizer.
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
            "a gradient transformation, or a list of these, which multiply, not all of "
            f"them numbers, got {learning_rate!r}. To try many rates, vmap over them."
        ) from None


def _is_product(learning_rate: Any) -> bool:
    """Return whether it is a sequence of rates; one of numbers alone is a mistake."""
    return type(learning_rate) in (list, tuple) and any(
        callable(member) or isinstance(member, list | tuple) for member in learning_rate
    )


def descend(*learning_rates: LearningRate) -> optax.GradientTransformationExtraArgs:
    """Go downhill: multiply the updates by every rate, and by −1.

    Args:
        learning_rates: One or more of: a number, a traced scalar, a function
            `step -> rate`, a gradient transformation (a schedule, a controller, an
            estimate, a chain of them), or a list of these. All of them multiply.

    Raises:
        TypeError: If there is none, or one is nothing of these.
        ValueError: If one is no rate, such as a whole optimizer, which has its own
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
    """A learning rate that is read apart from the updates; see `seat`."""

    init: Callable[[], Any]
    read: Callable[..., tuple[jax.Array, Any]]


def seat(learning_rate: LearningRate, *, needs_unit: bool = False) -> Seat:
    """Make a seat for a method whose mathematics needs the rate itself.

    Args:
        learning_rate: As in `descend`, but for rates that follow gradients: it scales
            the number 1.
        needs_unit: See `as_rate`.

    Returns:
        `init()`, which gives the rate's state, and `read(state, **extra_args)`, which
        gives the rate to apply, a float32 scalar, and the rate's next state.
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

    A product that a narrow dtype cannot hold becomes its largest number. An infinite
    update stays infinite, so that a guard around the chain sees it.
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
    """Turn real and complex updates around, for `optax.stateless`."""
    del params
    return jax.tree.map(
        lambda leaf: -leaf if jnp.issubdtype(dtype_of(leaf), jnp.inexact) else leaf,
        updates,
    )


def _evaluate(function: Callable[[jax.Array], Any], step: jax.Array) -> jax.Array:
    rate = jnp.asarray(function(step))
    if jnp.issubdtype(rate.dtype, jnp.complexfloating):
        raise TypeError(f"a schedule must give a real rate, got dtype {rate.dtype}.")
    require(
        rate.shape in ((), step.shape),
        f"a schedule must give a rate of the step's shape {step.shape}, "
        f"got {rate.shape}.",
    )
    return rate.astype(jnp.float32)


def _applied(rate: jax.Array, state: Any) -> Any:
    """Enter a rate into a state: the one before where not finite, and never below 0."""
    finite = jnp.isfinite(rate)
    invalid = counters.increment(state.invalid, where=~finite | (rate < 0))
    rate = jnp.where(finite, jnp.maximum(rate, 0), state.learning_rate)
    return state._replace(learning_rate=rate, invalid=invalid)
