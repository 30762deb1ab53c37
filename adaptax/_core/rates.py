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
import optax

from adaptax._core import seats
from adaptax._core.checks import Scalar
from adaptax._core.scaling import negate
from adaptax._core.schedule import Schedule, as_schedule, constant
from adaptax._core.words import written

OneRate: TypeAlias = Scalar | Callable[..., Any] | optax.GradientTransformation
"""A number, a traced scalar, a function `step -> rate`, or a transformation."""

LearningRate: TypeAlias = OneRate | Sequence[OneRate]
"""The argument `learning_rate`: a rate, or a list or tuple of rates, which multiply."""


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
