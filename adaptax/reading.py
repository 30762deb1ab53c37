"""Reading and setting the rate that is really applied, and what else a state knows.

A rate is a state with the field `learning_rate`. These functions find it at any depth
of chains, wrappers, `optax.partition` and `optax.inject_hyperparams`, in a Flax
`TrainState` or `nnx.Optimizer` as in a bare optimizer state, inside jit and vmap as
outside.
"""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from adaptax._core import checks
from adaptax._core.checks import Scalar
from adaptax._core.following import ControllerState
from adaptax._core.kept_rates import KeptRate, as_array, kept_rates
from adaptax._core.naming import named_scalars
from adaptax._core.states import (
    is_variable,
    key_of,
    optimizer_state,
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
    rates = kept_rates(opt_state)
    alone = isinstance(opt_state, ControllerState) and isinstance(rates, KeptRate)
    known = as_array(rates.product) if alone else _known(rates)
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
    targets = _targets(kept_rates(opt_state), value)
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


def _known(rates: Any) -> Any:
    """Return the rates that are known, as arrays; None where none is."""
    if isinstance(rates, dict):
        known = {label: _known(rate) for label, rate in rates.items()}
        return {key: rate for key, rate in known.items() if rate is not None} or None
    if rates is None or not rates.has_unit or rates.hidden:
        return None
    return as_array(rates.product)


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
    value = as_array(value)
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
