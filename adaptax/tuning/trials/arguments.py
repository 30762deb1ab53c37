"""Checks of the arguments of `trial` and `nnx_trial`."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from adaptax._core import checks
from adaptax._core.checks import require
from adaptax.tuning.trials.streams import Stream

Batches = Literal["separate", "shared"]


def require_callable(name: str, value: Any) -> None:
    """Check that an argument is a function."""
    if not callable(value):
        raise TypeError(f"{name} must be a function, got {value!r}.")


def require_arguments(
    loss: Any,
    optimizer: Any,
    data: Any,
    batch_size: Any,
    evaluate: Any,
    eval_data: Any,
    batches: Any,
) -> int | None:
    """Check the common arguments of `trial` and `nnx_trial`; return the batch size."""
    require_callable("loss", loss)
    require_callable("optimizer", optimizer)
    for name, given in (("data", data), ("eval_data", eval_data)):
        if not isinstance(given, Stream):
            require_arrays(name, given)
    if evaluate is not None:
        require_callable("evaluate", evaluate)
        require(
            eval_data is not None,
            "evaluate needs eval_data, got None. Pass the held-out data, or () for a "
            "function that needs none.",
        )
    checks.one_of("batches", batches, Batches)
    if isinstance(data, Stream):
        require(
            batch_size is None,
            f"batch_size must be None with a stream, got {batch_size!r}: each step has "
            "one of its batches as a whole.",
        )
        return None
    size = num_examples(data)
    if batch_size is None:
        return None
    batch_size = checks.length("batch_size", batch_size)
    require(
        batch_size <= size,
        f"batch_size must be <= the number of examples, got {batch_size} > {size}. "
        "Pass None to use all of them.",
    )
    return batch_size


def require_arrays(name: str, tree: Any) -> None:
    """Check that all leaves of an argument are arrays or numbers.

    Raises:
        TypeError: If one is not; the message names its path.
    """
    leaves = jax.tree.leaves_with_path(
        tree,
        is_leaf=lambda node: isinstance(node, Iterator),  # JAX warns about these
    )
    for path, leaf in leaves:
        try:
            jnp.result_type(leaf)
        except TypeError as error:
            raise TypeError(
                f"{name}{jax.tree_util.keystr(path)} must be an array of numbers, got "
                f"{getattr(leaf, 'dtype', type(leaf).__name__)}."
                + _about_streams(name, leaf)
            ) from error


def _about_streams(name: str, leaf: Any) -> str:
    """Return a remedy for what may be batches to read one after another."""
    if isinstance(leaf, Stream):
        return f" A stream must be the whole of {name}."
    if isinstance(leaf, str | bytes) or not (callable(leaf) or _iterable(leaf)):
        return ""
    return (
        f" For batches that are read one after another, write {name}=adaptax.stream(…)."
    )


def _iterable(leaf: Any) -> bool:
    return isinstance(leaf, Iterable) and not hasattr(leaf, "dtype")


def num_examples(data: Any) -> int:
    """Return the number of examples in a pytree of arrays, which must all agree."""
    sizes = {}
    for path, leaf in jax.tree.leaves_with_path(data):
        name = jax.tree_util.keystr(path)
        require(
            jnp.ndim(leaf) > 0,
            f"data{name} must have a leading axis of examples, got a scalar.",
        )
        sizes[f"data{name}"] = leaf.shape[0]
    require(
        bool(sizes) and min(sizes.values()) > 0,
        "data must have arrays with at least one example, got none.",
    )
    listed = ", ".join(f"{count} in {name}" for name, count in sizes.items())
    require(
        len(set(sizes.values())) == 1,
        f"the arrays of data must have the same number of examples, got {listed}.",
    )
    return next(iter(sizes.values()))


def optimizer_of(make: Callable[[Any], Any], hparams: Any) -> Any:
    """Return the optimizer for some hyperparameters."""
    optimizer = make(hparams)
    if not isinstance(optimizer, optax.GradientTransformation):
        raise TypeError(
            "optimizer must be a function of the hyperparameters that returns an Optax "
            f"transformation, got {type(optimizer).__name__}. Write optimizer=lambda "
            'hparams: adaptax.adam(hparams["learning_rate"]).'
        )
    return optax.with_extra_args_support(optimizer)


def as_loss(value: Any) -> jax.Array:
    """Return the value of a loss function, which must be a real scalar."""
    value = jnp.asarray(value)
    require(
        value.shape == () and jnp.issubdtype(value.dtype, jnp.floating),
        f"loss must return a real scalar, got {value.dtype} of shape {value.shape}. "
        "Take the mean over the batch.",
    )
    return value


def as_float32(value: Any) -> jax.Array:
    """Return a number as a float32 array."""
    return jnp.asarray(value).astype(jnp.float32)
