"""Records as one JSON text, for what reads no .npz: a browser, another language.

    {"schema": 1, "kind": "sweep", "about": {…},
     "arrays": {"losses": {"dtype": "float32", "shape": [2, 3], "values": […]}}}

Values stand in C order. They come back to the last bit; the ones that are not finite
are the strings "nan", "inf" and "-inf".
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from adaptax.checks import require
from adaptax.tuning import plain_json
from adaptax.tuning.archives import SCHEMA, require_layout

_READ: dict[str, Any] = {
    "f": float,
    "V": float,
    "b": bool,
    "i": int,
    "u": int,
    "U": str,
}


def encode(kind: str, arrays: Mapping[str, Any], about: dict[str, Any]) -> str:
    """Write a record; see `records.save_arrays`.

    Raises:
        TypeError: If JSON has no such fact.
        ValueError: If an array is not of real numbers, bools or strings.
    """
    given = {name: np.asarray(array) for name, array in arrays.items()}
    stored = {name: _stored(name, array) for name, array in given.items()}
    header = {"schema": SCHEMA, "kind": kind, "about": about, "arrays": stored}
    return plain_json.encode(header) + "\n"


def decode(
    text: str | bytes, kind: str, source: object
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `encode` wrote: the arrays, and the facts about them.

    Raises:
        ValueError: If it is damaged, no record, of another kind or another layout.
    """
    try:
        record = plain_json.decode(text)
        schema, found, about = record["schema"], record["kind"], record["about"]
        stored = record["arrays"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{source} must be a {kind} in JSON: {error!r}.") from error
    require_layout(schema, found, kind, source)
    try:
        return {name: _array(**array) for name, array in stored.items()}, about
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"{source} has a damaged array: {error}.") from error


def _stored(name: str, array: np.ndarray) -> dict[str, Any]:
    require(
        array.dtype.kind in _READ and array.dtype.names is None,
        f"array {name!r} must be of real numbers, bools or strings to be written as "
        f"JSON, got the dtype {array.dtype}. Save it to a .npz file.",
    )
    wide = array.astype(np.float64) if array.dtype.kind == "V" else array
    return {
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "values": wide.ravel().tolist(),
    }


def _array(dtype: str, shape: list[int], values: list[Any]) -> np.ndarray:
    real = np.dtype(dtype)
    if real.kind not in _READ:
        raise ValueError(f"it has the dtype {dtype}")
    if len(values) != math.prod(shape):
        raise ValueError(f"{len(values)} values do not fill the shape {shape}")
    flat = [_READ[real.kind](value) for value in values]
    return (
        np.array(flat, np.float64 if real.kind == "V" else real)
        .astype(real)
        .reshape(shape)
    )
