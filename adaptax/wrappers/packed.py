"""Packing: store an optimizer's state of small leaves in a few flat buffers.

    T' = scatter ∘ T ∘ gather,   gather([x₁, x₂, …]) = [ravel(x₁), ravel(x₂), …]

The transformation T receives one buffer for each dtype instead of the small leaves. Its
state has the same layout, and one kernel updates all of them. In JAX each array costs
an optimizer some microseconds per step, and each kernel milliseconds to compile.

Source: the concatenation of vectors commutes with any function that treats each
coordinate independently.
"""

import functools
import json
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import optax

from adaptax._core import checks
from adaptax._core.checks import require
from adaptax._core.guards import flattened, guarded
from adaptax._core.leaves import dtype_of, is_placeholder
from adaptax._core.methods import Method
from adaptax._core.words import translating
from adaptax.wrappers.packing.layout import (
    Layout,
    PackedTree,
    Slot,
    fitted,
    gather,
    layout_of,
    paths_and_leaves,
    scatter,
)
from adaptax.wrappers.packing.parameters import PackedParams, unpack
from adaptax.wrappers.packing.regrouping import require_regroupable


class PackedState(NamedTuple):
    """The state of `packed`.

    `layout` is a dict without arrays, whose only key is the layout as text. So states
    with different layouts differ in structure, in checkpoints too. In `inner_state` a
    `PackedTree` replaces each tree that is shaped like the parameters.
    """

    layout: dict[str, tuple[()]]
    inner_state: optax.OptState

    def unpacked(self, params: optax.Params) -> Any:
        """Return the inner state without packing."""
        layout = _layout(self)

        def visit(node):
            if not isinstance(node, PackedTree):
                return node
            return _in_places(layout, scatter(layout, node), params)

        return jax.tree.map(
            visit, self.inner_state, is_leaf=lambda node: isinstance(node, PackedTree)
        )


@translating
def packed(
    inner: optax.GradientTransformation,
    *,
    largest: int = 64 * 1024,
    elementwise: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Store the state of small leaves in one flat buffer for each dtype.

    The updates are those of `inner`, bit by bit where XLA compiles the same loop, else
    up to rounding: it may fuse a product and a sum in only one of them, and norms over
    all leaves are summed in another order.

    It works for transformations that treat every coordinate independently, or all of
    them together, like clipping by the global norm. Others are refused: `init` applies
    the transformation to a small tree.

    Args:
        inner: The transformation.
        largest: The size in bytes of the largest leaf to pack; packing leaves of four
            times the default size gains nothing (measured on CPU). Leaves that are not
            floating point, or are sharded, keep their state as it is. Shardings are not
            known inside jit, where each device would gather the small leaves, so call
            `init` outside.
        elementwise: Assert that `inner` may be packed, without the check. Structural.

    Raises:
        ValueError: At `init`, if `inner` treats leaves individually, or the check
            fails; at `update`, if the gradients do not match the parameters.

    >>> import adaptax
    >>> tx = packed(adaptax.adam(0.1))
    >>> params = {"w": 1.0, "b": -1.0}
    >>> updates, state = tx.update(params, tx.init(params))
    >>> float(updates["w"])
    -0.1
    >>> state.inner_state[0].mean.buffers["float32"].shape
    (2,)
    """
    checks.length("largest", largest, at_least=0)
    inner = optax.with_extra_args_support(inner)

    def init(params):
        instead = "unpack_state(state, params), with the optimizer inside"
        checks.refuse_placeholder(params, "packed", instead)
        if not elementwise:
            require_regroupable(inner)
        layout = layout_of(params, largest)
        packed_params = gather(layout, jax.tree.leaves(params))
        return PackedState({json.dumps(layout): ()}, inner.init(packed_params))

    def update(updates, state, params=None, **extra_args):
        layout = _layout(state)
        leaves, structure = flattened(updates)
        tree = updates if params is None else params
        between = _Between(layout, jax.tree.structure(tree), flattened(tree)[1])
        new, inner_state = inner.update(
            between.packed(updates),
            state.inner_state,
            None if params is None else between.packed(params),
            **{name: between.argument(name, one) for name, one in extra_args.items()},
        )
        stepped = scatter(layout, cast(PackedTree, new))
        found = {slot.path: leaf for slot, leaf in zip(layout, stepped, strict=True)}
        paths = [path for path, _ in paths_and_leaves(updates, is_leaf=is_placeholder)]
        updates = structure.unflatten(
            old if is_placeholder(old) else _as(old, found[path])
            for old, path in zip(leaves, paths, strict=True)
        )
        return updates, PackedState(state.layout, inner_state)

    return guarded(optax.GradientTransformationExtraArgs(init, update))


def unpack_state(opt_state: Any, params: optax.Params) -> Any:
    """Return an optimizer's state as it would be without packing.

    Args:
        opt_state: A state that contains states of `packed` at any depth, or the state
            of an optimizer of `PackedParams`.
        params: The parameters, as a tree, or their shapes. Under `optax.partition` or
            `optax.masked`, all of them.

    Returns:
        The state with every `PackedState` replaced by its inner state, and buffers by
        trees.

    Raises:
        ValueError: If the parameters are not those that were packed.

    >>> import adaptax
    >>> params = {"w": 1.0, "b": -1.0}
    >>> tx = packed(adaptax.momentum(0.1))
    >>> unpack_state(tx.init(params), params)[0].velocity
    {'b': Array(0., dtype=float32), 'w': Array(0., dtype=float32)}
    """

    def visit(node):
        if isinstance(node, PackedState):
            return node.unpacked(params)
        return unpack(node) if isinstance(node, PackedParams) else node

    kinds = (PackedState, PackedParams)
    return jax.tree.map(visit, opt_state, is_leaf=lambda node: isinstance(node, kinds))


class _Between(NamedTuple):
    """Translates between the caller's trees and the inner transformation's buffers."""

    layout: Layout
    structure: Any
    form: Any  # the structure in which placeholders are leaves

    def packed(self, tree: Any) -> PackedTree:
        return gather(self.layout, fitted(self.layout, tree, "packed"))

    def argument(self, name: str, argument: Any) -> Any:
        """Pack an extra argument: a tree of gradients, or a function of trees."""
        mirrored = self._mirrored(name, argument)  # a callable model is a tree
        if mirrored is argument and callable(argument):
            return self._function(name, argument)
        return mirrored

    def _function(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args, **kwargs):
            args, kwargs = jax.tree.map(
                self._tree, (args, kwargs), is_leaf=lambda x: isinstance(x, PackedTree)
            )
            return self._mirrored(name, function(*args, **kwargs))

        return call

    def _tree(self, node: Any) -> Any:
        if not isinstance(node, PackedTree):
            return node
        return self.structure.unflatten(scatter(self.layout, node))

    def _mirrored(self, name: str, result: Any) -> Any:
        """Pack a tree like the parameters; if they are one array, go by the name."""
        bare = jax.tree_util.treedef_is_leaf(self.structure)
        form = jax.tree.structure(result, is_leaf=is_placeholder)
        if result is None or form != self.form:
            return result
        return self.packed(result) if not bare or name.startswith("grad") else result


def _layout(state: PackedState) -> Layout:
    (text,) = state.layout
    return _read(text)


@functools.lru_cache(maxsize=64)
def _read(text: str) -> Layout:
    return tuple(
        Slot(path, buffer, tuple(shape)) for path, buffer, shape in json.loads(text)
    )


def _as(old: Any, leaf: Any) -> Any:
    """Cast an update to the dtype of its gradient."""
    if is_placeholder(leaf) or dtype_of(leaf) == dtype_of(old):
        return leaf
    return leaf.astype(dtype_of(old))


def _in_places(layout: Layout, leaves: list[Any], params: optax.Params) -> Any:
    """Replace the parameters by these leaves, matched by order or else by path."""
    own, structure = jax.tree.flatten(params)
    if len(own) == len(leaves):
        return structure.unflatten(leaves)
    found = {slot.path: leaf for slot, leaf in zip(layout, leaves, strict=True)}
    paths = [path for path, _ in paths_and_leaves(params)]
    unknown = [path for path in found if path not in paths]
    require(
        not unknown,
        f"params has no leaf {', '.join(unknown)}, which the state was made for. "
        "Pass the parameters that init was given.",
    )
    placed = [found.get(path, optax.MaskedNode()) for path in paths]
    return structure.unflatten(placed)


METHOD = Method(
    {"learning_rate": 0.1},
    source=(
        "the concatenation of vectors commutes with any function that treats each "
        "coordinate independently"
    ),
)
