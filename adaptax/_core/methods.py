"""Methods: what the catalogue cannot read off a method's own file.

Each file of a family ends with one, `METHOD = Method(...)`. `adaptax.catalog` finds it
there and makes the method's entry of it, so that there is no list of them to keep.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from adaptax._core.schedule import Schedule

Rate = Literal["factor", "inferred", "path", "none"]


@dataclass(frozen=True)
class Method:
    """What a file says about its method; see `adaptax.catalog.Entry` for the fields."""

    hyperparameters: Mapping[str, Any]
    source: str
    variants: tuple[Mapping[str, Any], ...] = ()
    needs: frozenset[str] = frozenset()
    differs: str = ""
    over: Callable[[Any, int], Schedule] | None = None
    usual_rate: float | None = None
    rate: Rate = "factor"
