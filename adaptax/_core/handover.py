"""Handover: how a method's state is made of another library's.

A state does not hold the numbers that its method was built with, such as the β of its
averages, and a chain hides its parts. So each method hands over, with the state that
its `init` makes, a function that makes such a state of Optax's, and `gathered` collects
them while a whole chain is initialized.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

Takes: TypeAlias = Mapping[str, Callable[[Any], Any]]
"""By the name of the type of a state of Optax: what makes a state of it."""

_gathering: ContextVar[list[tuple[Any, Takes]] | None] = ContextVar(
    "gathering", default=None
)


def offer(state: Any, takes: Takes) -> Any:
    """Return a state that was just initialized, and note what it can be made of."""
    offers = _gathering.get()
    if offers is not None:
        offers.append((state, takes))
    return state


@contextmanager
def gathered() -> Iterator[list[tuple[Any, Takes]]]:
    """Collect the states initialized inside, each with what it can be made of."""
    offers: list[tuple[Any, Takes]] = []
    token = _gathering.set(offers)
    try:
        yield offers
    finally:
        _gathering.reset(token)
