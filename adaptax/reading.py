"""Reading and setting the rate that is really applied, and what else a state knows.

A rate is a state with the field `learning_rate`. These functions find it at any depth
of chains, wrappers, `optax.partition` and `optax.inject_hyperparams`, in a Flax
`TrainState` or `nnx.Optimizer` as in a bare optimizer state, inside jit and vmap as
outside.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from adaptax._core import checks
from adaptax._core.checks import Scalar
from adaptax._core.following import ControllerState
from adaptax._core.leaves import is_complex, is_number, is_trained
from adaptax._core.naming import named_scalars
from adaptax._core.rates import ConstantState
from adaptax._core.states import (
    INJECTED,
    LABELED,
    SAVED,
    asked,
    fields_of,
    folded,
    is_own,
    is_variable,
    key_of,
    optimizer_state,
    parts_in_use,
    settled,
    without_variables,
)

_S = TypeVar("_S")


def learning_rate(opt_state: Any) -> Any:
    """Read the rate of the last step: the product of all the rates in a chain.

    Before the first step it is the rate that the first step starts from.

    Args:
        opt_state: An optimizer's state, a Flax `TrainState` or `nnx.Optimizer`, or a
            container of several: a list, dict, NamedTuple or dataclass, at any depth. A
            tuple is a chain, and so is the state of `optax.named_chain`.

    Returns:
        A float32 scalar; under `optax.partition` a dict of them by label, and where
        several branches of a container are states, a dict by key (of dicts, where
        containers are nested). Labels and keys of which the rate is not known are
        missing. A rate inside `optax.masked` counts like any other, though it applies
        to a part of the tree. Of a lone controller's own state it is the factor.

    Raises:
        ValueError: If the rate is not known. Optax keeps none, as in `optax.adam(1e-3)`
            or `optax.scale_by_schedule`, but with `optax.inject_hyperparams`; and what
            a controller behind it multiplies by is only a factor. A number that
            `optax.scale` multiplies by leaves no trace in a state: beside a schedule or
            a constant of adaptax it is not counted.

    >>> import adaptax
    >>> tx = adaptax.adam(adaptax.cosine(peak=0.5, total_steps=100))
    >>> state = tx.init({"w": 1.0})
    >>> float(learning_rate(state))
    0.5
    >>> sorted(learning_rate({"generator": state, "discriminator": state}))
    ['discriminator', 'generator']
    """
    rates = _rates(opt_state)
    alone = isinstance(opt_state, ControllerState) and isinstance(rates, _Rate)
    known = _as_array(rates.product) if alone else _known(rates)
    if known is None:
        raise ValueError(
            "this optimizer state keeps no learning rate, or only a factor of one that "
            "Optax does not keep. Build the optimizer with an adaptax rate, such as "
            "adaptax.adam([1e-3, reduce_on_plateau()]) or optax.chain(..., "
            "adaptax.descend(1e-3)), or with optax.inject_hyperparams."
        )
    return known


def set_learning_rate(opt_state: _S, value: Scalar | dict[Any, Any]) -> _S:
    """Set the constant rate in a state, without recompiling anything.

    What controllers have made of the rate so far is undone: `learning_rate` reads
    `value` afterwards, and they go on from there. Schedules and inferred rates go on
    multiplying it. What `optax.inject_hyperparams` keeps as a number is set there.

    Args:
        opt_state: An optimizer's state, or a container, as in `learning_rate`. An
            `nnx.Optimizer` is itself changed, and returned.
        value: The rate >= 0; under `optax.partition`, and for containers, either one
            for all the labels or a dict of some labels.

    Returns:
        The state with the rate set.

    Raises:
        ValueError: If there is no constant rate to set, as with a schedule (its next
            update would override it), or several of which one cannot be chosen, or if
            `value` is not a rate.
    """
    _require_rates(value)
    targets = _targets(_rates(opt_state), value)
    if not targets:
        raise ValueError(
            "this optimizer state has no constant learning rate to set: a schedule, a "
            "controller or an estimate decides it. Build the optimizer with a number."
        )

    def visit(path, node):
        target = targets.get(tuple(map(key_of, path)))
        return node if target is None else _filled(node, target)

    changed = jax.tree.map_with_path(visit, opt_state, is_leaf=is_variable)
    return settled(opt_state, changed)


def telemetry(opt_state: Any) -> dict[str, jax.Array]:
    """Collect every scalar of a state, such as "reduce_on_plateau/learning_rate".

    A scalar is called by its method and its field: "adam/step",
    "cosine" and other schedules as "schedule/learning_rate", "constant/learning_rate".
    What a controller counts stands beside the fields of its method. The states of Optax
    have the names of their classes: "scale_by_adam/count". In front stand, where there
    are some,

    * "saved", for what `restore_best` goes back to;
    * the `name` or `monitor` of a controller, unless that is "value":
      "validation/reduce_on_plateau/best";
    * where there are two of a kind, that by which their places differ: a label of
      `optax.partition`, the key of a container, or an index in a chain:
      "generator/adam/step", "0/schedule/step".

    The names depend on the structure of the state alone, and so are the same from step
    to step.

    Args:
        opt_state: Any optimizer state, a Flax `TrainState`, an `nnx.Optimizer` or a
            container, as in `learning_rate`. For a batch of them, use
            `jax.vmap(telemetry)`.

    Returns:
        A dict from name to scalar. Parts of a name are joined by "/"; a "/" or "~"
        within one is written "~1" or "~0", as in JSON pointers.

    >>> import adaptax
    >>> state = adaptax.adam([1e-3, adaptax.reduce_on_plateau()]).init({"w": 1.0})
    >>> float(telemetry(state)["reduce_on_plateau/learning_rate"])
    1.0
    """
    state = without_variables(optimizer_state(opt_state))
    return {name: jnp.asarray(leaf) for name, leaf in named_scalars(state).items()}


class _Rate(NamedTuple):
    """What is known of the rates in a chain.

    `product` is that of all, `cut` that of controllers that only multiply; without any
    that `has_unit` it is a factor, and it is not all where one is `hidden`. `slots` are
    the constants that can be set, each with the paths of all its copies.
    """

    product: Any = 1.0
    cut: Any = 1.0
    has_unit: bool = False
    hidden: bool = False
    slots: tuple[tuple[tuple[Any, ...], ...], ...] = ()

    @property
    def is_neutral(self) -> bool:
        return isinstance(self.product, float)

    def times(self, other: "_Rate") -> "_Rate":
        return _Rate(
            self.product * other.product,
            self.cut * other.cut,
            self.has_unit or other.has_unit,
            self.hidden or other.hidden,
            self.slots + other.slots,
        )

    def below(self, *keys: Any) -> "_Rate":
        slots = (tuple((*keys, *path) for path in slot) for slot in self.slots)
        return self._replace(slots=tuple(slots))

    def copied(self, field: str, other: str) -> "_Rate":
        """Let a field have copies of the constants of another."""
        copies = (
            slot + tuple((other, *path[1:]) for path in slot if path[0] == field)
            for slot in self.slots
        )
        return self._replace(slots=tuple(copies))


def _rates(state: Any) -> Any:
    """Read a `_Rate`, a dict of them by label or key; None where there is no state."""
    return folded(state, parts_in_use, _combined)


def _combined(node: Any, rates: dict[Any, Any]) -> Any:
    """Read the rates of a node from those of its parts."""
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
    rate = _own_rate(node)
    for part in found.values():
        rate = _times(rate, part)
    if isinstance(rate, _Rate) and _only_multiplies(node):
        return rate._replace(cut=rate.product, has_unit=False)
    if rate is not None and SAVED in fields_of(node):
        return _each(rate, lambda one: one.copied("inner_state", SAVED))
    return rate


def _by_label(rates: dict[Any, Any]) -> Any:
    """Read the groups of a partition, which may be but directions.

    Beside groups with a rate, that of a group without one is not known.
    """
    single = [rate for rate in rates.values() if isinstance(rate, _Rate)]
    if len(single) == len(rates) and all(rate.is_neutral for rate in single):
        return _Rate(hidden=any(rate.hidden for rate in single))
    if not any(rate.has_unit for rate in single):
        return rates
    return {
        label: rate._replace(hidden=True)
        if isinstance(rate, _Rate) and not rate.has_unit
        else rate
        for label, rate in rates.items()
    }


def _is_container(node: Any) -> bool:
    """Return whether the parts of a node are states side by side, and no chain."""
    if type(node) in (tuple, OrderedDict) or is_own(node):
        return False
    return not any(map(_only_multiplies, parts_in_use(node).values()))


def _only_multiplies(node: Any) -> bool:
    return isinstance(node, ControllerState) and not node.has_unit()


def _injected(state: Any, inner: Any) -> Any:
    """Count the injected rate once: an inner rate is made of it."""
    rate = _number(state.hyperparams.get("learning_rate"))
    if rate is None or isinstance(inner, dict):
        return inner
    inner = _Rate() if inner is None else inner
    if not inner.has_unit:
        inner = inner._replace(product=inner.product * rate, has_unit=True)
    if "learning_rate" in getattr(state, "hyperparams_states", {}):
        return inner._replace(slots=())  # its next update would override what is set
    own = ("hyperparams", "learning_rate")
    first, others = inner.slots[:1], inner.slots[1:]
    return inner._replace(slots=((own, *sum(first, ())), *others))


def _own_rate(node: Any) -> _Rate | None:
    """Read what a node says of its own rate; None where it is no state."""
    fields = fields_of(node)
    if isinstance(node, optax.contrib.ReduceLROnPlateauState):
        scale = _number(node.scale)
        return _Rate(scale, cut=scale)
    if isinstance(node, optax.ScaleByScheduleState):
        return _Rate(hidden=True)
    rate = _number(node.learning_rate) if "learning_rate" in fields else None
    if rate is None:
        return _Rate() if is_own(node) else None
    if SAVED in fields:
        return _Rate(rate, cut=rate)
    has_unit = asked(node, "has_unit")
    constant = isinstance(node, ConstantState)
    slots = ((("learning_rate",),),) if constant else ()
    return _Rate(rate, has_unit=has_unit() if has_unit else True, slots=slots)


def _number(field: Any) -> jax.Array | None:
    """Return a field as a float32 array, if it holds one real number."""
    field = without_variables(field)
    if not is_number(field) or not is_trained(field) or is_complex(field):
        return None
    return _as_array(field)


def _as_array(number: Any) -> jax.Array:
    return jnp.asarray(number).astype(jnp.float32)


def _each(rates: Any, change: Callable[[_Rate], _Rate]) -> Any:
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


def _known(rates: Any) -> Any:
    """Return the rates that are known, as arrays; None where none is."""
    if isinstance(rates, dict):
        known = {label: _known(rate) for label, rate in rates.items()}
        return {key: rate for key, rate in known.items() if rate is not None} or None
    if rates is None or not rates.has_unit or rates.hidden:
        return None
    return _as_array(rates.product)


def _targets(rates: Any, value: Any) -> dict[tuple[Any, ...], Any]:
    """Return what to put where, by path, for the rates to become a value."""
    if isinstance(rates, dict):
        return _targets_by_label(rates, value)
    if isinstance(value, dict):
        raise ValueError(
            f"a learning rate by label, {value}, was given for a state without labels. "
            "Labels are those of optax.partition, and keys of containers of states."
        )
    if rates is None or not rates.slots:
        return {}
    if len(rates.slots) > 1:
        raise ValueError(
            "this optimizer state has several constant learning rates that multiply, "
            "and one of them cannot be chosen. Build the optimizer with a single one."
        )
    constant = _divided(value, rates.cut)
    return dict.fromkeys(rates.slots[0], constant)


def _targets_by_label(rates: dict[Any, Any], value: Any) -> dict[Any, Any]:
    values = value if isinstance(value, dict) else dict.fromkeys(rates, value)
    targets = {}
    for label, one in values.items():
        if label not in rates:
            raise ValueError(
                f"there is no label {label!r} in this optimizer state. There are: "
                f"{', '.join(map(repr, rates))}."
            )
        found = _targets(rates[label], one)
        if isinstance(value, dict) and not found:
            raise ValueError(f"label {label!r} has no constant learning rate to set.")
        targets.update(found)
    return targets


def _divided(value: Any, cut: Any) -> Any:
    """Return the constant that a cut makes a value of; the value where none does."""
    value = _as_array(value)
    constant = value / jnp.where(cut > 0, cut, 1)
    return jnp.where(jnp.isfinite(constant), constant, value)


def _filled(field: Any, value: Any) -> Any:
    """Put a value into a field, keeping its dtype, its batch and its wrapper."""
    return jax.tree.map(
        lambda old: jnp.full_like(old, jnp.asarray(value).astype(old.dtype)), field
    )


def _require_rates(value: Any) -> None:
    if isinstance(value, dict):
        for one in value.values():
            _require_rates(one)
    else:
        checks.rate("value", value)
