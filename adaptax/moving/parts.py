"""Parts: the states within the state of an optimizer."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from adaptax._core.checks import require
from adaptax._core.handover import Conversions
from adaptax._core.schedule import ConstantState, ScheduleState

RATES = (ConstantState, ScheduleState)

RATE = "ScaleByScheduleState"

DECAY = "WeightDecaySchedule"


class Part(NamedTuple):
    """A state in a chain, and the labels of `optax.partition` that lead there."""

    labels: tuple[Any, ...]
    state: Any

    @property
    def name(self) -> str:
        """The name of the state's class."""
        return type(self.state).__name__

    @property
    def is_empty(self) -> bool:
        """Whether the state has no arrays."""
        return not jax.tree.leaves(self.state)

    @property
    def is_schedule(self) -> bool:
        """Whether it is the state of a rate, or the count of a schedule."""
        return isinstance(self.state, RATES) or self.name in (RATE, DECAY)

    @property
    def is_injected(self) -> bool:
        """Whether `optax.inject_hyperparams` made it."""
        return "hyperparams" in fields_of(self.state)


def parts_of_optax(state: Any, labels: tuple[Any, ...] = ()) -> Iterator[Part]:
    """Yield the parts of an Optax state, in the order in which they act."""
    if type(state) in (tuple, list):
        for one in state:
            yield from parts_of_optax(one, labels)
    elif "inner_states" in fields_of(state):
        for label, one in state.inner_states.items():
            yield from parts_of_optax(one, (*labels, label))
    elif isinstance(state, optax.MaskedState):
        yield from parts_of_optax(state.inner_state, labels)
    elif Part(labels, state).is_injected:
        scheduled = getattr(state, "hyperparams_states", {}).get("learning_rate")
        yield Part(labels, state)
        yield from parts_of_optax(state.inner_state, labels)
        if scheduled is not None:
            yield Part(labels, optax.ScaleByScheduleState(scheduled.count))
    else:
        yield Part(labels, state)


def parts_of(
    state: Any, conversions: dict[int, Conversions], labels: tuple[Any, ...] = ()
) -> Iterator[Part]:
    """Yield the parts of a state of `tx`, including those inside wrappers."""
    if "inner_states" in fields_of(state):
        for label, one in state.inner_states.items():
            yield from parts_of(one, conversions, (*labels, label))
        return
    if isinstance(state, tuple) and hasattr(state, "_fields"):
        yield Part(labels, state)
    if id(state) not in conversions and isinstance(state, tuple | list | dict):
        for one in state.values() if isinstance(state, dict) else state:
            yield from parts_of(one, conversions, labels)


def fields_of(state: Any) -> tuple[str, ...]:
    """Return the names of the fields of a state, if it is a `NamedTuple`."""
    return getattr(state, "_fields", ()) if isinstance(state, tuple) else ()


def common_count(counts: Iterable[Any]) -> Any:
    """Return the common count of all parts; None without parts."""
    counts = list(counts)
    values = {int(count) for count in counts if not isinstance(count, Tracer)}
    require(
        len(values) < 2,
        f"the counts in opt_state differ: {sorted(values)}. Parts that took different "
        "numbers of steps cannot continue as one optimizer.",
    )
    return jnp.asarray(counts[0]) if counts else None
