"""Extra arguments of `update`: read, and checked."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adaptax._core.checks import require

OBSERVED = "observed_metric"
"""The extra argument by which `observe` passes a metric to a controller's `update`."""


def as_arguments(names: tuple[str, ...]) -> str:
    """Return the extra arguments among these names as written in a call."""
    return "".join(f", {name}=..." for name in names if name != "params")


def read_needed(names: tuple[str, ...], extra_args: dict[str, Any]) -> dict[str, Any]:
    """Return the extra arguments of `update` that a controller needs."""
    return {
        name: read_metric(extra_args, name)
        if name == "value"
        else read_extra(extra_args, name)
        for name in names
        if name != "params"
    }


def read_extra(extra_args: dict[str, Any], name: str) -> Any:
    """Return an extra argument of `update`; raise `TypeError` if it is missing."""
    if extra_args.get(name) is None:
        raise TypeError(
            f"the extra argument `{name}` is missing: call "
            f"tx.update(grads, state, params, {name}=...). If you do, something drops "
            "it: in a chain, optax.lookahead, split_real_and_imaginary and "
            "MultiSteps(...).gradient_transformation() do. Put the transformation that "
            f"needs `{name}` outside of them, or pass a controller its metric by "
            "`observe`. Flax's own TrainState drops it too: use "
            "adaptax.flax.TrainState."
        )
    return extra_args[name]


def read_metric(extra_args: dict[str, Any], monitor: str | None) -> jax.Array | None:
    """Return the monitored metric as a float32 scalar; `None` if there is none."""
    name = OBSERVED if OBSERVED in extra_args else monitor
    if name is None:
        return None
    label = "metric" if name == OBSERVED else name
    return as_metric(label, read_extra(extra_args, name))


def as_metric(name: str, value: Any) -> jax.Array:
    """Return a metric, such as a loss, as a float32 scalar.

    Raises:
        TypeError: If it is not a real number.
        ValueError: If it is not a scalar.
    """
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite
            metric = jnp.asarray(value)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"{name} must be a number, got {value!r}.") from None
    if not jnp.issubdtype(metric.dtype, jnp.number) and metric.dtype != bool:
        raise TypeError(f"{name} must be a number, got dtype {metric.dtype}.")
    if jnp.issubdtype(metric.dtype, jnp.complexfloating):
        raise TypeError(f"{name} must be real, got dtype {metric.dtype}.")
    require(
        metric.shape == (),
        f"{name} must be a scalar, got shape {metric.shape}. Take its mean.",
    )
    return metric.astype(jnp.float32)
