"""Reading and setting the rate that is applied, and reading the scalars of a state.

These functions find the field `learning_rate` at any depth of chains, wrappers,
`optax.partition` and `optax.inject_hyperparams`, in an optimizer's state, a Flax
`TrainState` or an `nnx.Optimizer`, inside jit and vmap or outside.
"""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from adaptax._core import checks
from adaptax._core.checks import Scalar
from adaptax._core.following import ControllerState
from adaptax._core.kept_rates import KeptRate, as_array, kept_rates
from adaptax._core.naming import named_scalars
from adaptax._core.states import optimizer_state, with_fields, without_variables

_S = TypeVar("_S")


def learning_rate(opt_state: Any) -> Any:
    """Return the rate of the last step: the product of all rates in a chain.

    Before the first step it is the first rate.

    Args:
        opt_state: An optimizer's state, a Flax `TrainState` or `nnx.Optimizer`, or a
            container of several: a list, dict, NamedTuple or dataclass, at any depth. A
            tuple is a chain, and so is the state of `optax.named_chain`.

    Returns:
        A float32 scalar; under `optax.partition` a dict of them by label; for a
        container with several states, a dict by key (nested like the containers).
        Labels and keys whose rate is not known are missing. A rate inside
        `optax.masked` is included, though it applies to only a part of the tree. For a
        controller's own state, it is the controller's factor.

    Raises:
        ValueError: If the rate is not known. Optax does not store it, as in
            `optax.adam(1e-3)` or `optax.scale_by_schedule`, except with
            `optax.inject_hyperparams`; a controller after it has only a factor. The
            number of `optax.scale` is in no state, so it is not included.

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
    rate = as_array(rates.product) if alone else _known(rates)
    if rate is None:
        raise ValueError(
            "this optimizer state has no learning rate, or only a factor of one that "
            "Optax does not store. Build the optimizer with an adaptax rate, such as "
            "adaptax.adam([1e-3, reduce_on_plateau()]) or optax.chain(..., "
            "adaptax.descend(1e-3)), or with optax.inject_hyperparams."
        )
    return rate


def set_learning_rate(opt_state: _S, value: Scalar | dict[Any, Any]) -> _S:
    """Set the constant rate in a state, without recompiling.

    The cuts and rises of controllers so far are compensated: `learning_rate` then
    returns `value`, and they continue from there. Schedules and inferred rates still
    multiply it. A constant rate of `optax.inject_hyperparams` is set as well. Inside a
    `steerable`, this ends a cool-down or a hold.

    Args:
        opt_state: An optimizer's state, or a container, as in `learning_rate`. An
            `nnx.Optimizer` is changed in place, and returned.
        value: The rate >= 0; under `optax.partition`, and for containers, one rate for
            all labels or a dict with some of them.

    Returns:
        The state with the new rate.

    Raises:
        ValueError: If there is no constant rate to set, as with a schedule (its next
            update would override it), if there are several, or if `value` is not a
            rate.
    """
    _require_rates(value)
    targets = _targets(kept_rates(opt_state), value)
    if not targets:
        raise ValueError(
            "this optimizer state has no constant learning rate to set: a schedule, a "
            "controller or an estimate determines it. Build the optimizer with a "
            "number; or, to hold or cool down such a rate, with adaptax.steerable."
        )

    return with_fields(opt_state, targets)


def telemetry(opt_state: Any) -> dict[str, jax.Array]:
    """Return every scalar of a state by name, such as "adam/step".

    A name consists of a method and a field. Schedules are called "schedule", as in
    "schedule/learning_rate", or "constant". A controller's own fields are among those
    of its method. States of Optax are named after their classes:
    "scale_by_adam/count". There may be prefixes:

    * "saved", for the state that `restore_best` returns to;
    * the `name` or `monitor` of a controller, unless it is "value":
      "validation/reduce_on_plateau/best";
    * between several of a kind, the part of their paths that differs: a label of
      `optax.partition`, a key of a container, or an index in a chain:
      "generator/adam/step", "0/schedule/step".

    The names depend only on the structure of the state, so they are the same at every
    step.

    Args:
        opt_state: Any optimizer state, a Flax `TrainState`, an `nnx.Optimizer` or a
            container, as in `learning_rate`. For a batch of them, use
            `jax.vmap(telemetry)`.

    Returns:
        A dict of scalars. The parts of a name are joined by "/"; a "/" or "~" within a
        part is escaped as "~1" or "~0", as in JSON pointers.

    >>> import adaptax
    >>> state = adaptax.adam([1e-3, adaptax.reduce_on_plateau()]).init({"w": 1.0})
    >>> float(telemetry(state)["reduce_on_plateau/learning_rate"])
    1.0
    """
    state = without_variables(optimizer_state(opt_state))
    return {name: jnp.asarray(leaf) for name, leaf in named_scalars(state).items()}


def _known(rates: Any) -> Any:
    """Return the known rates as arrays; None if there is none."""
    if isinstance(rates, dict):
        by_key = {label: _known(rate) for label, rate in rates.items()}
        return {key: rate for key, rate in by_key.items() if rate is not None} or None
    if rates is None or not rates.has_unit or rates.hidden:
        return None
    return as_array(rates.product)


def _targets(rates: Any, value: Any) -> dict[tuple[Any, ...], Any]:
    """Return the constants that give the rates a value, by their paths."""
    if isinstance(rates, dict):
        return _targets_by_label(rates, value)
    if isinstance(value, dict):
        raise ValueError(
            f"got a learning rate by label, {value}, for a state without labels. Labels"
            " are those of optax.partition, and the keys of containers of states."
        )
    if rates is None or not rates.slots:
        return {}
    if len(rates.slots) > 1:
        raise ValueError(
            "this optimizer state has several constant learning rates, which multiply. "
            "Build the optimizer with a single one."
        )
    constant = _divided(value, rates.cut)
    targets = dict.fromkeys(rates.slots[0], constant)
    for one in rates.steered:
        for place in one.paths:
            if any(slot[: len(place)] == place for slot in rates.slots[0]):
                targets[(*place, "learning_rate")] = constant * one.cut
                targets[(*place, "order", "given")] = False
    return targets


def _targets_by_label(rates: dict[Any, Any], value: Any) -> dict[Any, Any]:
    values = value if isinstance(value, dict) else dict.fromkeys(rates, value)
    targets = {}
    for label, one in values.items():
        if label not in rates:
            raise ValueError(
                f"this optimizer state has no label {label!r}. Its labels are "
                f"{', '.join(map(repr, rates))}."
            )
        found = _targets(rates[label], one)
        if isinstance(value, dict) and not found:
            raise ValueError(f"label {label!r} has no constant learning rate to set.")
        targets.update(found)
    return targets


def _divided(value: Any, cut: Any) -> Any:
    """Return the constant that becomes `value` after a cut; if none does, `value`."""
    value = as_array(value)
    constant = value / jnp.where(cut > 0, cut, 1)
    return jnp.where(jnp.isfinite(constant), constant, value)


def _require_rates(value: Any) -> None:
    if isinstance(value, dict):
        for one in value.values():
            _require_rates(one)
    else:
        checks.rate("value", value)
