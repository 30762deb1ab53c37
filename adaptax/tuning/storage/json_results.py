"""Results as one JSON text, for browsers or other languages.

    {"schema": 1, "kind": "sweep", "about": {…},
     "arrays": {"losses": {"dtype": "float32", "shape": [2, 3], "values": […]}}}

Values are in C order, and are read back to the last bit. Values that are not finite are
written as the strings "nan", "inf" and "-inf".
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from adaptax._core.checks import require
from adaptax.tuning.storage import strict_json
from adaptax.tuning.storage.npz_files import SCHEMA, require_layout

_KINDS = "fVbiuU"  # of dtypes
_WORDS = ("nan", "inf", "-inf")
_SHORT = 256  # characters that a dtype of strings may always have


def encode(kind: str, arrays: Mapping[str, Any], about: dict[str, Any]) -> str:
    """Return a result as text; see `result_files.save_arrays`.

    Raises:
        TypeError: If `about` is not plain JSON.
        ValueError: If an array has other values than real numbers, bools or strings.
    """
    given = {name: np.asarray(array) for name, array in arrays.items()}
    stored = {name: _stored(name, array) for name, array in given.items()}
    header = {"schema": SCHEMA, "kind": kind, "about": about, "arrays": stored}
    return strict_json.encode(header) + "\n"


def decode(
    text: str | bytes, kind: str, source: object
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Undo `encode`: return the arrays, and the facts about them.

    Raises:
        ValueError: If the text is damaged, not a result, or of another kind or layout.
    """
    try:
        record = strict_json.decode(text)
        schema, found, about = record["schema"], record["kind"], record["about"]
        stored = record["arrays"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{source} must be a {kind} in JSON: {error!r}.") from error
    require_layout(schema, found, kind, source)
    try:
        arrays = list(stored.items())
    except AttributeError as error:
        raise ValueError(
            f"{source} must have arrays by name, got {stored!r}."
        ) from error
    found = {}
    for name, array in arrays:
        try:
            found[name] = _array(**array)
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(
                f"{source} has a damaged array {name!r}: {error}."
            ) from error
    return found, about


def _stored(name: str, array: np.ndarray) -> dict[str, Any]:
    require(
        array.dtype.kind in _KINDS and array.dtype.names is None,
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
    if real.kind not in _KINDS or (real.kind == "V" and real.isbuiltin != 2):
        raise ValueError(f"it has the dtype {dtype}")
    if not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError(f"it has the shape {shape}")
    if len(values) != math.prod(shape):
        raise ValueError(f"{len(values)} values do not fill the shape {shape}")
    for value in values:
        if not _fits(value, real.kind):
            raise ValueError(f"{value!r} is not a value of {dtype}")
    if real.kind == "U":
        longest = max([_SHORT, *map(len, values)])
        if real.itemsize > 4 * longest:
            raise ValueError(f"no string is as long as {dtype} declares")
    if real.kind not in "fV":
        return np.array(values, real).reshape(shape)
    wide = np.array([float(value) for value in values], np.float64)
    with np.errstate(over="ignore"):
        flat = wide.astype(real)
    if (np.isfinite(wide) & ~np.isfinite(flat.astype(np.float64))).any():
        raise ValueError(f"a value is too large for {dtype}")
    return flat.reshape(shape)


def _fits(value: Any, kind: str) -> bool:
    """Return whether a JSON value has the type that a kind of dtype is written as."""
    if kind in "fV":
        return type(value) in (int, float) or (
            isinstance(value, str) and value in _WORDS
        )
    return type(value) is {"b": bool, "i": int, "u": int, "U": str}[kind]
