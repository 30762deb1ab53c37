"""The learning rates in an optimizer's state.

Rates in a chain multiply. Groups and containers have a rate each, by label or key.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from adaptax._core.following import ControllerState
from adaptax._core.leaves import is_complex, is_number, is_trained
from adaptax._core.schedule import ConstantState
from adaptax._core.states import (
    INJECTED,
    LABELED,
    SAVED,
    asked,
    fields_of,
    folded,
    is_own,
    parts_in_use,
    without_variables,
)


class Steered(NamedTuple):
    """A state that takes orders, see `steerable`: the paths of all its copies.

    `state` is the one in use, and `cut` the product of the controllers inside of it
    that only multiply.
    """

    paths: tuple[tuple[Any, ...], ...]
    state: Any
    cut: Any

    def below(self, *keys: Any) -> "Steered":
        return self._replace(paths=tuple((*keys, *path) for path in self.paths))

    def copied(self, field: str, other: str) -> "Steered":
        return self._replace(paths=_copied(self.paths, field, other))


class KeptRate(NamedTuple):
    """The rates in a chain.

    `product` is the product of all rates, and `cut` that of the controllers that only
    multiply. Without a rate that `has_unit`, `product` is but a factor; where a rate is
    `hidden`, it is incomplete. `slots` are the constants that can be set, each with the
    paths of all its copies, and `steered` the states that take orders.
    """

    product: Any = 1.0
    cut: Any = 1.0
    has_unit: bool = False
    hidden: bool = False
    slots: tuple[tuple[tuple[Any, ...], ...], ...] = ()
    steered: tuple[Steered, ...] = ()

    @property
    def is_neutral(self) -> bool:
        return isinstance(self.product, float)

    def times(self, other: "KeptRate") -> "KeptRate":
        return KeptRate(
            self.product * other.product,
            self.cut * other.cut,
            self.has_unit or other.has_unit,
            self.hidden or other.hidden,
            self.slots + other.slots,
            self.steered + other.steered,
        )

    def below(self, *keys: Any) -> "KeptRate":
        slots = (tuple((*keys, *path) for path in slot) for slot in self.slots)
        steered = (one.below(*keys) for one in self.steered)
        return self._replace(slots=tuple(slots), steered=tuple(steered))

    def copied(self, field: str, other: str) -> "KeptRate":
        """Add the copies, in another field, of what can be set in a field."""
        slots = (_copied(slot, field, other) for slot in self.slots)
        steered = (one.copied(field, other) for one in self.steered)
        return self._replace(slots=tuple(slots), steered=tuple(steered))


def _copied(paths: tuple[tuple[Any, ...], ...], field: str, other: str) -> Any:
    return paths + tuple((other, *path[1:]) for path in paths if path[0] == field)


def kept_rates(state: Any) -> Any:
    """Return a `KeptRate`, or a dict of them by label or key; None without a state."""
    return folded(state, parts_in_use, _combined)


def _combined(node: Any, rates: dict[Any, Any]) -> Any:
    """Return the rates of a node from those of its parts."""
    above = ("inner_states",) if isinstance(node, LABELED) else ()
    found = {
        key: _each(rate, lambda one, key=key: one.below(*above, key))
        for key, rate in rates.items()
        if rate is not None
    }
    if isinstance(node, LABELED):
        return _by_label(found)
    if _is_container(node) and len(found) > 1:
        return found
    if isinstance(node, INJECTED):
        return _injected(node, found.get("inner_state"))
    if asked(node, "takes_orders"):
        return _steered(node, found)
    rate = _own_rate(node)
    for part in found.values():
        rate = _times(rate, part)
    if isinstance(rate, KeptRate) and _only_multiplies(node):
        return rate._replace(cut=rate.product, has_unit=False)
    if rate is not None and SAVED in fields_of(node):
        return _each(rate, lambda one: one.copied("inner_state", SAVED))
    return rate


def _by_label(rates: dict[Any, Any]) -> Any:
    """Return the rates of the groups of a partition.

    If no group has a rate, that is one neutral rate. If some have a rate with a unit,
    those of the others are hidden.
    """
    single = [rate for rate in rates.values() if isinstance(rate, KeptRate)]
    if len(single) == len(rates) and all(rate.is_neutral for rate in single):
        return KeptRate(hidden=any(rate.hidden for rate in single))
    if not any(rate.has_unit for rate in single):
        return rates
    return {
        label: rate._replace(hidden=True)
        if isinstance(rate, KeptRate) and not rate.has_unit
        else rate
        for label, rate in rates.items()
    }


def _steered(node: Any, found: dict[Any, Any]) -> KeptRate:
    """Return the rate of a state that takes orders, in the place of those inside."""
    (inside,) = found.values()
    own = Steered(((),), node, inside.cut)
    return inside._replace(
        product=_number(node.learning_rate),
        has_unit=True,
        hidden=False,
        steered=(own, *inside.steered),
    )


def _is_container(node: Any) -> bool:
    """Return whether a node contains independent states, unlike a chain."""
    if type(node) in (tuple, OrderedDict) or is_own(node):
        return False
    return not any(map(_only_multiplies, parts_in_use(node).values()))


def _only_multiplies(node: Any) -> bool:
    return isinstance(node, ControllerState) and not node.has_unit()


def _injected(state: Any, inner: Any) -> Any:
    """Combine an injected rate with the inner rates, which already contain it."""
    rate = _number(state.hyperparams.get("learning_rate"))
    if rate is None or isinstance(inner, dict):
        return inner
    inner = KeptRate() if inner is None else inner
    if not inner.has_unit:
        inner = inner._replace(product=inner.product * rate, has_unit=True)
    if "learning_rate" in getattr(state, "hyperparams_states", {}):
        return inner._replace(slots=())  # the next update would override a set rate
    own = ("hyperparams", "learning_rate")
    first, others = inner.slots[:1], inner.slots[1:]
    return inner._replace(slots=((own, *sum(first, ())), *others))


def _own_rate(node: Any) -> KeptRate | None:
    """Return the rate in a node's own fields; None if it is not a state."""
    fields = fields_of(node)
    if isinstance(node, optax.contrib.ReduceLROnPlateauState):
        scale = _number(node.scale)
        return KeptRate(scale, cut=scale)
    if isinstance(node, optax.ScaleByScheduleState):
        return KeptRate(hidden=True)
    rate = _number(node.learning_rate) if "learning_rate" in fields else None
    if rate is None:
        return KeptRate() if is_own(node) else None
    if SAVED in fields:
        return KeptRate(rate, cut=rate)
    has_unit = asked(node, "has_unit")
    constant = isinstance(node, ConstantState)
    slots = ((("learning_rate",),),) if constant else ()
    return KeptRate(rate, has_unit=has_unit() if has_unit else True, slots=slots)


def _number(field: Any) -> jax.Array | None:
    """Return a field as a float32 array if it is a real number; otherwise None."""
    field = without_variables(field)
    if not is_number(field) or not is_trained(field) or is_complex(field):
        return None
    return as_array(field)


def as_array(number: Any) -> jax.Array:
    return jnp.asarray(number).astype(jnp.float32)


def _each(rates: Any, change: Callable[[KeptRate], KeptRate]) -> Any:
    if isinstance(rates, dict):
        return {label: _each(rate, change) for label, rate in rates.items()}
    return change(rates)


def _times(one: Any, other: Any) -> Any:
    if one is None or other is None:
        return other if one is None else one
    if isinstance(one, dict) and isinstance(other, dict):
        labels = [*one, *(label for label in other if label not in one)]
        return {label: _times(one.get(label), other.get(label)) for label in labels}
    if isinstance(one, dict):
        return {label: _times(rate, other) for label, rate in one.items()}
    if isinstance(other, dict):
        return {label: _times(one, rate) for label, rate in other.items()}
    return one.times(other)
