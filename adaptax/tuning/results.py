"""What the results of all tools have in common: they are shown in a few lines."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import numpy as np

_WIDTH = 88
"""What a line of a `repr` is cut to."""


class Result:
    """A dataclass whose `repr` is a line for each field, arrays as dtype and shape.

    `HEADLINES` are the properties that a reader looks for first.
    """

    HEADLINES: ClassVar[tuple[str, ...]] = ()

    def __repr__(self) -> str:
        """Return a line for each headline and field; none of them holds an array."""
        names = [*self.HEADLINES, *vars(self)]
        lines = [f"  {name}={_brief(getattr(self, name))}" for name in names]
        cut = [
            line if len(line) < _WIDTH else line[: _WIDTH - 2] + "…" for line in lines
        ]
        return ",\n".join([f"{type(self).__name__}(\n{cut[0]}", *cut[1:]]) + ",\n)"


def _brief(value: Any) -> str:
    if isinstance(value, np.ndarray | jax.Array) and np.ndim(value) > 0:
        return f"{value.dtype}[{','.join(map(str, value.shape))}]"
    if isinstance(value, bool | int | str) or value is None:
        return repr(value)
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        items = (f"{name!r}: {_brief(each)}" for name, each in value.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(value, Result):
        return f"{type(value).__name__}(...)"
    if type(value) in (list, tuple):
        inner = ", ".join(map(_brief, value))
        return f"[{inner}]" if type(value) is list else f"({inner})"
    arrays = len(jax.tree.leaves(value))
    return f"{type(value).__name__}({arrays} arrays)"
