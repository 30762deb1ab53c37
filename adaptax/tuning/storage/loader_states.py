"""States of loaders, as they are saved: JSON for what iterators and loaders return.

Bytes, arrays, tensors of torch, tuples and keys that are not strings are written as
tagged lists, which `decode` turns back into what they were.
"""

import base64
import importlib
from typing import Any

import numpy as np


def encode(state: Any) -> Any:
    """Return a state as plain JSON; `None` if JSON cannot represent it.

    >>> decode(encode({"next": 3, 0: (b"x", None)}))
    {'next': 3, 0: (b'x', None)}
    """
    try:
        return _encoded(state)
    except TypeError:
        return None


def decode(value: Any) -> Any:
    """Undo `encode`."""
    if not isinstance(value, list):
        return value
    tag, *parts = value
    if tag == "dict":
        return {decode(key): decode(item) for key, item in parts}
    if tag in ("list", "tuple"):
        items = [decode(item) for item in parts]
        return items if tag == "list" else tuple(items)
    if tag == "float":
        return float(parts[0])
    data = base64.b64decode(parts[0])
    if tag == "bytes":
        return data
    array = np.frombuffer(data, np.dtype(parts[1])).reshape(parts[2]).copy()
    if tag == "tensor":
        return importlib.import_module("torch").from_numpy(array)
    return array if array.ndim or tag == "array" else array[()]


def _encoded(value: Any) -> Any:
    if type(value).__module__ == "torch" and hasattr(value, "detach"):
        return ["tensor", *_encoded(np.asarray(value.detach().cpu()))[1:]]
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype.hasobject:
            raise TypeError("an array of objects")
        tag = "array" if isinstance(value, np.ndarray) else "scalar"
        return [tag, _text(array.tobytes()), array.dtype.str, list(array.shape)]
    if isinstance(value, dict):
        return ["dict", *([_encoded(k), _encoded(v)] for k, v in value.items())]
    if isinstance(value, list | tuple):
        tag = "list" if isinstance(value, list) else "tuple"
        return [tag, *map(_encoded, value)]
    if isinstance(value, bytes):
        return ["bytes", _text(value)]
    if isinstance(value, float):
        return ["float", repr(value)]
    if value is None or isinstance(value, str | bool | int):
        return value
    raise TypeError(f"{type(value).__name__} in a loader's state")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
