"""Checks of hyperparameters: they raise on concrete values and let tracers pass.

The value of a hyperparameter that is an argument of a jitted function is not known when
the transformation is built. Its type and its shape are, and they are always checked.
"""

from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

Scalar = float | jax.Array
"""A hyperparameter: a Python or NumPy number, or a JAX scalar, traced or not."""


def require(condition: bool | np.bool_ | jax.Array, message: str) -> None:
    """Raise `ValueError` with this message if the condition is known to be false."""
    if not isinstance(condition, Tracer) and not condition:
        raise ValueError(message)


def number(
    name: str,
    value: object,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    kind: str = "a number",
) -> None:
    """Check that an argument is one finite real number within its bounds.

    Args:
        name: The argument's name, for the message.
        value: The argument.
        at_least: The smallest value allowed.
        above: A lower bound that is itself not allowed.
        at_most: The largest value allowed.
        below: An upper bound that is itself not allowed.
        kind: The kind of argument expected, for the message.

    Raises:
        TypeError: If the value is not a real number (booleans are not).
        ValueError: If it is not a scalar, not finite, or out of bounds.
    """
    _require_real(name, value, kind)
    if isinstance(value, Tracer):
        return
    concrete = _concrete(value)
    inside = (
        np.isfinite(concrete)
        and (at_least is None or concrete >= at_least)
        and (above is None or concrete > above)
        and (at_most is None or concrete <= at_most)
        and (below is None or concrete < below)
    )
    bounds = {">=": at_least, ">": above, "<=": at_most, "<": below}
    stated = [
        f"{sign} {bound:g}" for sign, bound in bounds.items() if bound is not None
    ]
    wanted = " and ".join(stated) or "finite"
    require(inside, f"{name} must be {wanted}, got {value}.")


def at_most(name: str, value: Scalar, bound_name: str, bound: Scalar) -> None:
    """Check that one argument, a number, does not exceed another."""
    if isinstance(value, Tracer) or isinstance(bound, Tracer):
        return
    require(
        _concrete(value) <= _concrete(bound),
        f"{name} must be <= {bound_name}, got {value} > {bound}.",
    )


def averaging_factor(name: str, value: object) -> None:
    """Check the factor b of a moving average: 0 <= b < 1.

    A half-precision array may be 1: `optax.inject_hyperparams` casts 0.999 to bfloat16
    where the parameters are bfloat16, which rounds it to 1. An average with b = 1 is
    the plain mean; see `adaptax._core.coordinates.average_weight`.
    """
    half = isinstance(value, jax.Array) and value.dtype.itemsize < 4
    if half:
        number(name, value, at_least=0, at_most=1)
    else:
        number(name, value, at_least=0, below=1)


def count(name: str, value: object, *, at_least: int = 0) -> None:
    """Check that an argument is a whole number, such as a number of steps.

    Raises:
        TypeError: If the value is not an integer.
        ValueError: If it is not a scalar, or is too small.
    """
    _require_real(name, value)
    if isinstance(value, Tracer):
        return
    if not jnp.issubdtype(jnp.result_type(value), jnp.integer):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    require(
        int(np.asarray(value)) >= at_least,
        f"{name} must be >= {at_least}, got {value}.",
    )


def steps(name: str, value: object, *, at_least: int | None = 0) -> None:
    """Check a number of steps: a whole number of any numeric type, such as 1e3.

    `count` is stricter: it requires an integer type.

    Raises:
        TypeError: If the value is not a real number.
        ValueError: If it is not a scalar, not whole, or too small.
    """
    _require_real(name, value)
    if isinstance(value, Tracer):
        return
    concrete = _concrete(value)
    bound = "" if at_least is None else f" >= {at_least}"
    whole = concrete.is_integer() and (at_least is None or concrete >= at_least)
    remedy = (
        f" For a part of a run, give round({concrete:g} * total_steps)."
        if 0 < concrete < 1
        else ""
    )
    require(whole, f"{name} must be a whole number{bound}, got {value}.{remedy}")


def length(name: str, value: Any, *, at_least: int = 1) -> int:
    """Check that a structural argument, such as an array's length, is a known integer.

    Returns:
        The length as a Python integer, so that products of lengths cannot overflow.

    Raises:
        TypeError: If the value is traced, or not an integer.
        ValueError: If it is too small.
    """
    if isinstance(value, Tracer):
        raise TypeError(
            f"{name} must be a Python integer, got a traced value: it is the length of "
            "an array, which is fixed when the program is compiled."
        )
    count(name, value, at_least=at_least)
    return int(value)


def one_of(name: str, value: object, allowed: Any) -> None:
    """Check that a structural argument is among those of a `Literal` or a tuple."""
    names = get_args(allowed) or allowed
    listed = ", ".join(repr(choice) for choice in names)
    found = any(isinstance(value, type(choice)) and value == choice for choice in names)
    require(found, f"{name} must be one of {listed}, got {value!r}.")


def required_params(params: Any, who: str, more: str = "") -> Any:
    """Return the parameters, which `update` must have been given.

    Args:
        params: The parameters.
        who: The method that needs them, for the message.
        more: Its other required arguments, as written in a call.

    Raises:
        ValueError: If they are missing.
    """
    if params is None:
        call = f"tx.update(grads, state, params{more})"
        raise ValueError(f"{who} needs the parameters: call {call}.")
    return params


def refuse_placeholder(params: Any, who: str, instead: str) -> None:
    """Refuse the placeholder that `optax.tree.map_params` passes to `init`.

    That function cannot map a state without leaves shaped like the parameters.

    Raises:
        ValueError: If `params` is the placeholder.
    """
    if type(params).__name__ == "_ParamsPlaceholder":
        raise ValueError(
            f"optax.tree.map_params cannot map a state of {who}, which has no leaves "
            f"shaped like the parameters. Map {instead}."
        )


def rate(name: str, value: object) -> None:
    """Check that a learning rate is a finite number >= 0 that float32 can hold."""
    number(name, value, at_least=0)
    if isinstance(value, Tracer):
        return
    concrete, smallest = float(np.asarray(value)), float(np.finfo(np.float32).tiny)
    require(
        concrete == 0 or concrete >= smallest,
        f"{name} must be 0 or at least {smallest:.2g}, the smallest normal float32, "
        f"got {value}: it would act as 0.",
    )
    require(
        concrete <= float(np.finfo(np.float32).max),
        f"{name} must be finite in float32, got {value}.",
    )


def _concrete(value: Any) -> float:
    """Return a concrete number as a float: infinite if it is too large for one."""
    try:
        return float(np.asarray(value))
    except OverflowError:
        return np.inf if value > 0 else -np.inf


def _require_real(name: str, value: object, kind: str = "a number") -> None:
    is_number = isinstance(value, int | float | np.number | np.ndarray | jax.Array)
    if not is_number or isinstance(value, bool):
        raise TypeError(f"{name} must be {kind}, got {value!r}.")
    try:
        dtype = jnp.result_type(value)
    except TypeError as error:  # an array of text or of objects
        raise TypeError(f"{name} must be {kind}, got {value!r}.") from error
    if dtype == jnp.bool_ or jnp.issubdtype(dtype, jnp.complexfloating):
        raise TypeError(
            f"{name} must be a real number, got {value!r}. For complex parameters, "
            "give optax.inject_hyperparams hyperparam_dtype=jnp.float32."
            if isinstance(value, Tracer | jax.Array)
            else f"{name} must be a real number, got {value!r}."
        )
    require(
        jnp.shape(value) == (),
        f"{name} must be a scalar, got an array of shape {jnp.shape(value)}. "
        "To try many values at once, vmap over it.",
    )
