"""Conversion: our state of a part, from that of its counterpart in Optax."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from adaptax._core.checks import require
from adaptax._core.handover import Conversions
from adaptax._core.kept_rates import as_array, kept_rates
from adaptax._core.leaves import (
    dtype_of,
    is_complex,
    is_placeholder,
    is_trained,
    widened,
)
from adaptax._core.schedule import ConstantState
from adaptax._core.weight_decay import WeightDecayState
from adaptax.moving.parts import Part, fields_of
from adaptax.reading import set_learning_rate
from adaptax.wrappers.steerable import SteerableState


def converted(part: Any, own: Any, conversions: dict[int, Conversions]) -> Any:
    """Convert a state to the structure, shapes and dtypes of one of ours."""
    name = type(part).__name__
    maker = conversions.get(id(own), {}).get(name)
    converted = part if maker is None else maker(_widened(part))
    pairs, structure = jax.tree.flatten_with_path(own, is_leaf=is_placeholder)
    try:
        leaves = structure.flatten_up_to(converted)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{name} in opt_state does not belong to params: {error}"
        ) from None
    return structure.unflatten(
        _fitted(name, jax.tree_util.keystr(path), new, old)
        for (path, old), new in zip(pairs, leaves, strict=True)
    )


def _widened(part: Any) -> Any:
    """Return Optax's averages in float32 at least, with untrained leaves masked."""

    def average(leaf):
        return widened(leaf) if is_trained(leaf) else optax.MaskedNode()

    return type(part)(
        **{
            name: jnp.asarray(field)
            if name == "count"
            else jax.tree.map(average, field)
            for name, field in part._asdict().items()
        }
    )


def _fitted(name: str, path: str, new: Any, old: Any) -> Any:
    if is_placeholder(old):
        return old
    shape = None if is_placeholder(new) else jnp.shape(new)
    require(
        shape == jnp.shape(old),
        f"{name} in opt_state has shape {shape} where the {path[1:]} of tx has "
        f"{jnp.shape(old)}: it does not belong to params.",
    )
    real = is_complex(new) and not is_complex(old)  # Optax has complex squares
    return (jnp.real(new) if real else new).astype(dtype_of(old))


def with_run_at(state: Any, step: jax.Array) -> Any:
    """Set the step of steerable rates to Optax's count, and their rate to that inside.

    The states inside of them were converted before.
    """

    def holds(node):
        return isinstance(node, SteerableState)

    def visit(node):
        if not holds(node):
            return node
        rate = as_array(kept_rates(node.rate).product)
        return node._replace(step=step.astype(jnp.int32), learning_rate=rate)

    return jax.tree.map(visit, state, is_leaf=holds)


def with_decay_at(state: Any, step: jax.Array) -> Any:
    """Set the step of scheduled weight decays to Optax's count."""

    def holds(node):
        return isinstance(node, WeightDecayState)

    def visit(node):
        return node._replace(step=step) if holds(node) else node

    return jax.tree.map(visit, state, is_leaf=holds)


def with_hyperparams(state: Any, part: Part, ours: list[Part]) -> Any:
    """Copy the rate, and the hyperparameters injected in `tx`, from Optax's state."""

    def visit(node):
        if "hyperparams" not in fields_of(node):
            return node
        common = {
            name: jnp.asarray(value).astype(dtype_of(node.hyperparams[name]))
            for name, value in part.state.hyperparams.items()
            if name in node.hyperparams
        }
        states = {
            name: own
            for name, own in getattr(part.state, "hyperparams_states", {}).items()
            if type(node.hyperparams_states.get(name)) is type(own)
        }
        return node._replace(
            count=part.state.count,
            hyperparams={**node.hyperparams, **common},
            hyperparams_states={**node.hyperparams_states, **states},
        )

    state = jax.tree.map(
        visit, state, is_leaf=lambda node: "hyperparams" in fields_of(node)
    )
    rate = part.state.hyperparams.get("learning_rate")
    scheduled = "learning_rate" in getattr(part.state, "hyperparams_states", {})
    if (
        rate is None
        or scheduled
        or not any(
            isinstance(own.state, ConstantState) and own.labels == part.labels
            for own in ours
        )
    ):
        return state
    return set_learning_rate(state, {part.labels[0]: rate} if part.labels else rate)
