"""Reading and setting the rate that is really applied, and what else a state knows.

A rate is a state with the field `learning_rate`. These functions find it at any depth
of chains, wrappers, `optax.partition` and `optax.inject_hyperparams`, in a Flax
`TrainState` or `nnx.Optimizer` as in a bare optimizer state, inside jit and vmap as
outside.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptax import checks, counters
from adaptax.checks import Scalar
from adaptax.coordinates import usable
from adaptax.fusion import once
from adaptax.guards import guarded
from adaptax.leaves import (
    computing_dtype,
    dtype_of,
    global_norm,
    is_complex,
    is_number,
    is_trained,
    without_variables,
)
from adaptax.rates import ConstantState
from adaptax.states import (
    INJECTED,
    LABELED,
    SAVED,
    fields_of,
    folded,
    key_of,
    parts_in_use,
)
from adaptax.varying import axes_of, spread


def learning_rate(opt_state: Any) -> Any:
    """Read the rate of the latest step: the product of all the rates in a chain.

    Before the first step it is the rate that the first step starts from.

    Args:
        opt_state: An optimizer's state, or a Flax `TrainState` or `nnx.Optimizer`.

    Returns:
        A float32 scalar; under `optax.partition` a dict of them by label. A rate inside
        `optax.masked` counts like any other, though it applies to a part of the tree.

    Raises:
        ValueError: If the state keeps no rate, as in `optax.adam(1e-3)`.

    >>> import adaptax
    >>> tx = adaptax.adam(adaptax.cosine(peak=0.5, total_steps=100))
    >>> float(learning_rate(tx.init({"w": 1.0})))
    0.5
    """
    rate = _product(_optimizer_state(opt_state))
    if rate is None:
        raise ValueError(
            "this optimizer state keeps no learning rate. Build the optimizer with an "
            "adaptax rate, such as adaptax.adam(1e-3) or optax.chain(..., "
            "adaptax.descend(1e-3)), or with optax.inject_hyperparams."
        )
    return rate


def set_learning_rate(opt_state: Any, value: Scalar | dict[Any, Any]) -> Any:
    """Set the constant rate in a state, without recompiling anything.

    Other rates in the chain go on multiplying it. What `optax.inject_hyperparams` keeps
    as a number is set there.

    Args:
        opt_state: An optimizer's state; for `nnx.Optimizer`, its `opt_state`.
        value: The rate >= 0; under `optax.partition`, either one for all the labels or
            a dict of some labels.

    Returns:
        The state with the rate set.

    Raises:
        ValueError: If there is no constant rate to set, as with a schedule (its next
            update would override it), or several of which one cannot be chosen, or if
            `value` is not a rate.
    """
    for one in value.values() if isinstance(value, dict) else [value]:
        checks.rate("value", one)
    state, changes = _set(opt_state, value)
    if changes == 0:
        raise ValueError(
            "this optimizer state has no constant learning rate to set: a schedule, a "
            "controller or an estimate decides it. Build the optimizer with a number."
        )
    return state


def telemetry(opt_state: Any) -> dict[str, jax.Array]:
    """Collect every scalar of a state by its path, such as "1/0/learning_rate".

    Args:
        opt_state: Any optimizer state. For a batch of them, use `jax.vmap(telemetry)`.

    Returns:
        A dict from path to scalar. Parts of a path are joined by "/"; a "/" or "~"
        within one is written "~1" or "~0", as in JSON pointers.
    """
    state = without_variables(_optimizer_state(opt_state))
    return {
        "/".join(map(_escaped, path)): jnp.asarray(leaf)
        for path, leaf in jax.tree.leaves_with_path(state)
        if is_number(leaf) and jnp.ndim(leaf) == 0
    }


class MonitorState(NamedTuple):
    """What `monitor` measured at the latest step: float32 scalars, 0 before the first.

    `invalid` counts the steps of which some norm was not finite; that norm and the
    ratio are then those of the step before. `stalled` counts the steps on which nothing
    could be learned: no element of the gradient was finite, and small enough for its
    square to be.
    """

    gradient_norm: jax.Array
    update_norm: jax.Array
    parameter_norm: jax.Array
    update_to_parameter_ratio: jax.Array
    invalid: jax.Array
    stalled: jax.Array
    inner_state: optax.OptState


def monitor(
    inner: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """Measure the norms of gradients, updates and parameters beside any transformation.

        ‖g‖, ‖u‖, ‖w‖  and  ‖u‖ / ‖w‖  (0 where ‖w‖ = 0)

    L2 norms over all leaves, in float32; g is what enters `inner`, u what leaves it, w
    the parameters before the step. A ratio near 1e-3 is usual for a healthy training
    run. Steps on which no element of the gradient could be used are counted, as happens
    where a loss scale is too large; it costs one more reduction of the gradient.

    Source: A. Karpathy (2015), CS231n notes, "Ratio of weights:updates".

    Args:
        inner: The transformation to measure; its results do not change.

    Raises:
        ValueError: At `update`, if `params` is missing.
    """
    inner = optax.with_extra_args_support(inner)

    def init(params):
        norms = (jnp.zeros((), jnp.float32) for _ in range(4))
        measured = spread((*norms, counters.zero(), counters.zero()), axes_of(params))
        return MonitorState(*measured, inner_state=inner.init(params))

    def update(updates, state, params=None, **extra_args):
        params = checks.given_params(params, "monitor")
        gradient_norm = global_norm(updates)
        stalled = counters.increment(state.stalled, where=_none_usable(updates))
        updates, inner_state = inner.update(
            updates, state.inner_state, params, **extra_args
        )
        parameter_norm = global_norm(params)
        updates = once(updates, after=parameter_norm)
        update_norm = global_norm(updates)
        nonzero = jnp.where(parameter_norm > 0, parameter_norm, 1)
        ratio = jnp.where(parameter_norm > 0, update_norm / nonzero, 0)
        measured = jnp.stack([gradient_norm, update_norm, parameter_norm, ratio])
        finite = jnp.isfinite(measured)
        kept = jnp.where(finite, measured, jnp.stack(state[:4]))
        invalid = counters.increment(state.invalid, where=~finite.all())
        return updates, MonitorState(
            *kept, invalid=invalid, stalled=stalled, inner_state=inner_state
        )

    return guarded(optax.GradientTransformationExtraArgs(init, update))


def _none_usable(updates: optax.Updates) -> jax.Array:
    """Tell whether no element of gradients can be used, though there are some."""

    def some(leaf):
        return usable(jnp.asarray(leaf).astype(computing_dtype(dtype_of(leaf)))).any()

    leaves = [leaf for leaf in jax.tree.leaves(updates) if is_trained(leaf)]
    found = [some(leaf) for leaf in leaves if jnp.size(leaf)]
    return ~jnp.stack(found).any() if found else jnp.zeros((), bool)


def _optimizer_state(state: Any) -> Any:
    """Take the optimizer's state out of a Flax TrainState or Optimizer."""
    return state if isinstance(state, tuple) else getattr(state, "opt_state", state)


def _product(state: Any) -> Any:
    """Multiply the rates below a state; None where there is none."""
    return folded(state, parts_in_use, _combined)


def _combined(state: Any, rates: dict[Any, Any]) -> Any:
    """Multiply a state's own rate and those of its parts."""
    if isinstance(state, LABELED):
        return {key: rate for key, rate in rates.items() if rate is not None} or None
    if isinstance(state, INJECTED) and rates["inner_state"] is not None:
        return rates["inner_state"]  # which is made of the injected rate
    rate = _own_rate(state)
    for part in rates.values():
        rate = _times(rate, part)
    return rate


def _own_rate(state: Any) -> jax.Array | None:
    """Return the rate that a node keeps itself, if it is one real number."""
    if isinstance(state, INJECTED):
        rate = state.hyperparams.get("learning_rate")
    else:
        rate = state.learning_rate if "learning_rate" in fields_of(state) else None
    rate = without_variables(rate)
    if not is_number(rate) or not is_trained(rate) or is_complex(rate):
        return None
    return jnp.asarray(rate).astype(jnp.float32)


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
    return one * other


def _set(state: Any, value: Any) -> tuple[Any, int]:
    """Set the rate below a state, and count where it was set in a chain (0 or 1)."""
    counts = [0]

    def visit(node):
        if isinstance(node, ConstantState):
            filled = _filled(node.learning_rate, value)
            changed, count = node._replace(learning_rate=filled), 1
        elif isinstance(node, INJECTED):
            changed, count = _set_injected(node, value)
        elif isinstance(node, LABELED):
            changed, count = _set_by_label(node, value)
        elif SAVED in fields_of(node):
            inner_state, count = _set(node.inner_state, value)
            saved, _ = _set(node.saved_inner_state, value)
            changed = node._replace(inner_state=inner_state, saved_inner_state=saved)
        else:
            return node
        counts.append(count)
        return changed

    state = jax.tree.map(visit, state, is_leaf=_holds_rate)
    if sum(counts) > 1:
        raise ValueError(
            "this optimizer state has several constant learning rates that multiply, "
            "and one of them cannot be chosen. Build the optimizer with a single one."
        )
    return state, sum(counts)


def _holds_rate(node: Any) -> bool:
    special = (ConstantState, LABELED, *INJECTED)
    return isinstance(node, special) or SAVED in fields_of(node)


def _set_injected(state: Any, value: Any) -> tuple[Any, int]:
    """Set the injected number, and for readers the constant that is made of it."""
    inner_state, changes = _set(state.inner_state, value)
    state = state._replace(inner_state=inner_state)
    if "learning_rate" not in state.hyperparams:
        return state, changes
    if "learning_rate" in getattr(state, "hyperparams_states", {}):
        raise ValueError(
            "the learning rate of optax.inject_hyperparams follows a schedule here, "
            "which would override it at the next update. Inject a number instead."
        )
    _require_single(value)
    rate = _filled(state.hyperparams["learning_rate"], value)
    return state._replace(hyperparams={**state.hyperparams, "learning_rate": rate}), 1


def _set_by_label(state: Any, value: Any) -> tuple[Any, int]:
    inner_states = dict(state.inner_states)
    values = value if isinstance(value, dict) else dict.fromkeys(inner_states, value)
    unknown = [label for label in values if label not in inner_states]
    if unknown:
        raise ValueError(
            f"there is no label {unknown[0]!r} in this optimizer state. There are: "
            f"{', '.join(map(repr, inner_states))}."
        )
    changes = 0
    for label, one in values.items():
        inner_states[label], changed = _set(inner_states[label], one)
        if isinstance(value, dict) and not changed:
            raise ValueError(f"label {label!r} has no constant learning rate to set.")
        changes += changed
    return state._replace(inner_states=inner_states), min(changes, 1)


def _filled(field: Any, value: Any) -> Any:
    """Put a value into a field, keeping its dtype, its batch and its wrapper."""
    _require_single(value)
    return jax.tree.map(
        lambda old: jnp.full_like(old, jnp.asarray(value).astype(old.dtype)), field
    )


def _require_single(value: Any) -> None:
    if isinstance(value, dict):
        raise ValueError(
            f"a learning rate by label, {value}, was given for a state without labels. "
            "Labels are those of optax.partition."
        )


def _escaped(entry: Any) -> str:
    return str(key_of(entry)).replace("~", "~0").replace("/", "~1")
