"""The parts of an optimizer's state, at any depth.

States of adaptax may define methods: `has_unit`, `evaluated`, `unpacked`,
`takes_orders`. States of other libraries may have fields of these names, so methods are
looked up in the class.
Nothing here recurses, so states may be nested as deeply as JAX can flatten them.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax

_T = TypeVar("_T")

LABELED = optax.transforms.PartitionState
"""The state of `optax.partition`."""

INJECTED = (
    optax.InjectStatefulHyperparamsState,
    optax.schedules.InjectHyperparamsState,
)
"""The states of `optax.inject_hyperparams`."""

SAVED = "saved_inner_state"
"""The field that keeps a state to return to, which is not in use."""

_HOLDING = ("rate", "followed", "inner", "tuner", "model")
"""Fields, besides those called `..._state`, that contain states in adaptax."""


def asked(state: Any, name: str) -> Callable[..., Any] | None:
    """Return a state's method; `None` if it has none, or only a field of that name."""
    kind = type(state)
    is_field = dataclasses.is_dataclass(kind) and name in kind.__dataclass_fields__
    if is_field or not inspect.isfunction(getattr(kind, name, None)):
        return None
    return getattr(state, name)


def fields_of(state: Any) -> tuple[str, ...]:
    """Return the field names of a NamedTuple; none for other nodes."""
    return getattr(state, "_fields", ()) if isinstance(state, tuple) else ()


def parts_of(node: Any) -> dict[Any, Any]:
    """Return the children of a pytree node by key; none for a leaf."""
    pairs = jax.tree.leaves_with_path(node, is_leaf=lambda part: part is not node)
    return {key_of(path[0]): part for path, part in pairs if path}


def optimizer_state(state: Any) -> Any:
    """Return the optimizer's state in a Flax TrainState or Optimizer."""
    return state if isinstance(state, tuple) else getattr(state, "opt_state", state)


def is_variable(node: object) -> bool:
    """Return whether a node is a Flax NNX Variable."""
    return asked(node, "get_metadata") is not None


def without_variables(tree: Any) -> Any:
    """Replace NNX Variables by their values: an array, or a masked node."""

    def unwrap(node):
        if not is_variable(node):
            return node
        (value,) = parts_of(node).values()
        return value

    return jax.tree.map(unwrap, tree, is_leaf=is_variable)


def settled(state: _T, changed: _T) -> _T:
    """Return the changed state; change an `nnx.Optimizer` in it in place.

    Args:
        state: The state before the change.
        changed: The state after it, of the same structure. The Variables of an
            `nnx.Optimizer` in `state` are set to its values.
    """

    def settle(one, other):
        if not _is_shared(one):
            return other
        pairs = (
            filter(is_variable, jax.tree.leaves(node.opt_state, is_leaf=is_variable))
            for node in (one, other)
        )
        for variable, new in zip(*pairs, strict=True):
            variable.set_value(new.get_value())
        return one

    return jax.tree.map(settle, state, changed, is_leaf=_is_shared)


def _is_shared(node: Any) -> bool:
    """Return whether a node is a mutable object that contains an optimizer's state."""
    state = optimizer_state(node)
    if state is node or dataclasses.is_dataclass(node):
        return False
    return any(map(is_variable, jax.tree.leaves(state, is_leaf=is_variable)))


def is_own(node: Any) -> bool:
    """Return whether a node is a state whose class is from adaptax or Optax."""
    library = type(node).__module__.split(".")[0]
    masked = isinstance(node, optax.MaskedNode)
    return bool(fields_of(node)) and library in ("adaptax", "optax") and not masked


def parts_in_use(state: Any) -> dict[Any, Any]:
    """Return the parts of a state that may be or contain states, by key.

    In states of adaptax and Optax they are recognized by their names. The other fields
    are trees shaped like the parameters, whose keys may have any name.
    """
    if isinstance(state, INJECTED):
        return {"inner_state": state.inner_state}
    if isinstance(state, LABELED):
        return dict(state.inner_states)
    if optimizer_state(state) is not state:
        return {"opt_state": optimizer_state(state)}
    parts = parts_of(state)
    if is_own(state):
        return {key: part for key, part in parts.items() if _holds_states(key)}
    return parts


def _holds_states(field: str) -> bool:
    return field != SAVED and ("state" in field or field in _HOLDING)


def key_of(entry: Any) -> Any:
    """Return the key, name or index in an entry of a path."""
    for name in ("key", "name", "idx"):
        if hasattr(entry, name):
            return getattr(entry, name)
    return entry


def folded(
    state: Any,
    parts: Callable[[Any], dict[Any, Any]],
    combine: Callable[[Any, dict[Any, _T]], _T],
) -> _T:
    """Compute a result for a state from those of its parts, from the bottom up.

    Args:
        state: The root.
        parts: `parts(node)` returns the parts of a node to visit, by key.
        combine: `combine(node, results)` returns the result of a node from those of its
            parts, by key.
    """
    nodes, results = [state], []
    places: list[Any] = [None]
    for parent, node in enumerate(nodes):  # grows in the loop
        found = parts(node)
        nodes.extend(found.values())
        places.extend((parent, key) for key in found)
        results.append(dict.fromkeys(found))
    for place in reversed(range(1, len(nodes))):
        parent, key = places[place]
        results[parent][key] = combine(nodes[place], results[place])
    return combine(state, results[0])


def with_fields(opt_state: _T, targets: dict[tuple[Any, ...], Any]) -> _T:
    """Return a state with values in some fields, by their paths.

    A field keeps its dtype, its batch and its wrapper.
    """

    def visit(path, node):
        path = tuple(map(key_of, path))
        return _filled(node, targets[path]) if path in targets else node

    changed = jax.tree.map_with_path(visit, opt_state, is_leaf=is_variable)
    return settled(opt_state, changed)


def _filled(field: Any, value: Any) -> Any:
    return jax.tree.map(
        lambda old: jnp.full_like(old, jnp.asarray(value).astype(old.dtype)), field
    )
