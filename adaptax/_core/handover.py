"""Handover: how to make a method's state from Optax's state of the same method.

The conversion needs the method's hyperparameters, which are not in its state, and a
chain hides the methods in it. So each method's `init` offers its conversions with the
state it returns, and `gathered` collects them while a whole chain is initialized.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

Conversions: TypeAlias = Mapping[str, Callable[[Any], Any]]
"""Functions that convert a state of Optax, by the name of its type."""

_gathering: ContextVar[list[tuple[Any, Conversions]] | None] = ContextVar(
    "gathering", default=None
)


def offer(state: Any, conversions: Conversions) -> Any:
    """Return a newly initialized state, and register its conversions."""
    offers = _gathering.get()
    if offers is not None:
        offers.append((state, conversions))
    return state


@contextmanager
def gathered() -> Iterator[list[tuple[Any, Conversions]]]:
    """Collect the states initialized inside the context, with their conversions."""
    offers: list[tuple[Any, Conversions]] = []
    token = _gathering.set(offers)
    try:
        yield offers
    finally:
        _gathering.reset(token)
