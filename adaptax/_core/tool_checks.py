"""Checks of the arguments of tools that are not numbers: flags, keys, texts, paths."""

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adaptax._core.checks import count, require


def flag(name: str, value: object) -> bool:
    """Check that an argument is a bool, or 0 or 1, and return it as a bool.

    Raises:
        TypeError: If it is neither.
    """
    is_bool = isinstance(value, bool | np.bool_)
    if not is_bool and not (isinstance(value, int) and value in (0, 1)):
        raise TypeError(f"{name} must be True or False, got {value!r}.")
    return bool(value)


def key(name: str, value: Any) -> jax.Array:
    """Return a typed random key for a typed key, a raw one, or an integer seed.

    Raises:
        TypeError: If it is none of these.
        ValueError: If it is an array of several keys or of another shape, or a seed out
            of range.
    """
    if isinstance(value, jax.Array) and jnp.issubdtype(
        value.dtype, jax.dtypes.prng_key
    ):
        require(value.shape == (), f"{name} must be one key, got shape {value.shape}.")
        return value
    is_array = isinstance(value, jax.Array | np.ndarray) and value.ndim > 0
    if is_array and value.dtype == np.uint32:
        shape = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0))).shape
        require(
            value.shape == shape, f"{name} must be one key, got shape {value.shape}."
        )
        return jax.random.wrap_key_data(jnp.asarray(value))
    count(name, value)
    seed = int(np.asarray(value))
    require(seed < 2**32, f"{name} must be < 2**32, got {value}. Take a smaller one.")
    return jax.random.key(seed)


def text(name: str, value: object) -> None:
    """Check that an argument is a string that is not empty, such as a name.

    Raises:
        TypeError: If it is not a string.
        ValueError: If it is empty.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {value!r}.")
    require(value != "", f"{name} must not be empty, got ''.")


def path(name: str, value: Any, kind: str = "a file", remedy: str = "") -> str:
    """Check that an argument is the path of a file or folder, and return it as a `str`.

    Args:
        name: The argument's name, for the message.
        value: The argument.
        kind: What the path leads to, for the message.
        remedy: A last sentence for the message.

    Raises:
        TypeError: If it is neither a string nor an `os.PathLike` of one.
        ValueError: If it is empty or has a null character.
    """
    found = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(found, str):
        raise TypeError(f"{name} must be a path, got {value!r}.{remedy}")
    require(
        found != "" and "\0" not in found,
        f"{name} must be the path of {kind}, got {found!r}.{remedy}",
    )
    return found
