"""Calls: the code of a call of a tool, by which its result can be repeated."""

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adaptax import spaces

_ELSEWHERE = ("checkpoint", "extend", "mesh", "progress")
"""Arguments that change no result, or belong to a machine."""

_FUNCTIONS = ("trial", "rule")


def written(tool: Callable[..., Any], arguments: Mapping[str, Any]) -> str:
    """Return a call as code, without the arguments that have their default values.

    Functions and trials are written as the names of the arguments, such as `trial`.

    >>> from adaptax.tuning import find_learning_rate
    >>> print(written(find_learning_rate, {"trial": None, "low": 1e-6, "high": 10.0}))
    adaptax.find_learning_rate(
        trial,
        low=1e-06,
    )
    """
    lines = []
    for name, parameter in inspect.signature(tool).parameters.items():
        value = arguments.get(name, parameter.default)
        if name in _ELSEWHERE or _same(value, parameter.default):
            continue
        if name in _FUNCTIONS:
            lines.append(f"    {name},")
        elif name == "space":
            lines.append(f"    {code(value)},")
        else:
            lines.append(f"    {name}={code(value)},")
    public = tool.__name__ in vars(sys.modules["adaptax"])
    place = "adaptax" if public else "adaptax.tuning"
    return "\n".join([f"{place}.{tool.__name__}(", *lines, ")"])


def code(value: Any) -> str:
    """Return a value as code that makes it again, of the arguments that tools take.

    >>> code({"b1": spaces.grid([0.9, 0.99]), "eps": (1e-8, None)})
    "{'b1': adaptax.spaces.grid([0.9, 0.99]), 'eps': (1e-08, None)}"
    """
    if isinstance(value, spaces.Grid):
        return f"adaptax.spaces.grid({code(value.values)})"
    if isinstance(value, spaces.Choice):
        return f"adaptax.spaces.choice({code(value.options)})"
    if isinstance(value, spaces.Interval):
        kind = "log_uniform" if value.logarithmic else "uniform"
        return f"adaptax.spaces.{kind}({value.low}, {value.high})"
    if isinstance(value, Mapping):
        inner = (f"{key!r}: {code(each)}" for key, each in value.items())
        return f"{{{', '.join(inner)}}}"
    if isinstance(value, jax.Array) and jnp.issubdtype(
        value.dtype, jax.dtypes.prng_key
    ):
        data = np.asarray(jax.random.key_data(value)).tolist()
        kind = str(jax.random.key_impl(value))
        array = f"jax.numpy.array({data}, 'uint32')"
        return f"jax.random.wrap_key_data({array}, impl={kind!r})"
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        array = np.asarray(value)
        if array.ndim == 0:
            return str(array[()])
        return f"[{', '.join(code(each) for each in array)}]"
    if type(value) in (list, tuple):
        inner = ", ".join(map(code, value))
        comma = "," if type(value) is tuple and len(value) == 1 else ""
        return f"[{inner}]" if type(value) is list else f"({inner}{comma})"
    return repr(value)


def _same(value: Any, default: Any) -> bool:
    return type(value) is type(default) and bool(np.all(value == default))
