"""Strict JSON, which all readers understand in the same way.

Numbers that are not finite are written as the strings "nan", "inf" and "-inf", which
`float` reads. A text that has numbers that are not finite, or duplicate keys, is
refused.
"""

import json
import math
from typing import Any

import jax
import numpy as np

_SHOWN = 3


def plain(value: Any, name: str = "about") -> Any:
    """Return a value as it is read back from JSON: dicts, lists, strings, numbers.

    Args:
        value: The value, which may contain tuples, and arrays of NumPy or JAX.
        name: Its name in messages.

    Raises:
        TypeError: If JSON cannot represent the value, or a key is not a string.
    """
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        value = np.asarray(value).tolist()
    if isinstance(value, dict):
        return {_key(key, name): plain(value[key], f"{name}.{key}") for key in value}
    if isinstance(value, list | tuple):
        return [plain(item, f"{name}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(
        f"{name} must be a dict, list, string, number, bool or None, to be written as "
        f"JSON, got {value!r}."
    )


def encode(value: Any) -> str:
    """Return a value, made plain, as JSON text in ASCII."""
    return json.dumps(plain(value), allow_nan=False)


def decode(text: str | bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: If it is not JSON, is nested too deeply, has a number that is not
            finite, or a key twice in one object.
    """
    try:
        return json.loads(
            text,
            object_pairs_hook=_distinct,
            parse_float=_finite,
            parse_constant=_finite,
        )
    except RecursionError as error:
        raise ValueError("the JSON text is nested too deeply.") from error


def differences(
    there: Any, here: Any, name: str = "", sides: tuple[str, str] = ("there", "here")
) -> list[str]:
    """Return texts for the fields that differ; a missing field counts as `None`."""
    if isinstance(there, dict) and isinstance(here, dict):
        return [
            difference
            for key in sorted(there.keys() | here.keys())
            for difference in differences(
                there.get(key), here.get(key), _below(name, key), sides
            )
        ]
    if there == here:
        return []
    return [f"{name} = {there!r} {sides[0]} and {here!r} {sides[1]}"]


def brief_differences(
    there: dict[str, Any],
    here: dict[str, Any],
    sides: tuple[str, str] = ("there", "here"),
) -> list[str]:
    """Return the first three differences of each entry of two dicts, as texts."""
    found = []
    for part in sorted(there.keys() | here.keys()):
        some = differences(there.get(part), here.get(part), part, sides)
        found += some[:_SHOWN]
        if len(some) > _SHOWN:
            found.append(f"{len(some) - _SHOWN} more of {part}")
    return found


def _below(name: str, key: str) -> str:
    """Return the name of an entry; a path, such as "['x']", follows directly."""
    return name + key if not name or key[:1] in ("", "[", ".") else f"{name}.{key}"


def _key(key: Any, name: str) -> str:
    if not isinstance(key, str):
        raise TypeError(f"the keys of {name} must be strings, got {key!r}.")
    return key


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the JSON text has the key {twice!r} twice in one object.")
    return found


def _finite(literal: str) -> float:
    number = float(literal)
    if not math.isfinite(number):
        raise ValueError(f"the JSON text has {literal}, which is not a finite number.")
    return number
