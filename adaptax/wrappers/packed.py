"""Packing: an optimizer that keeps the state of small leaves in a few flat buffers.

    T' = scatter ∘ T ∘ gather,   gather([x₁, x₂, …]) = [ravel(x₁), ravel(x₂), …]

The transformation T sees one buffer for each dtype in the place of the small leaves, so
that its state is laid out alike and one kernel updates them all. An optimizer in JAX
pays some microseconds for each array and milliseconds of compilation for each kernel.

Source: the concatenation of vectors commutes with whatever treats each coordinate
alone.
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

    `layout` is a dict without arrays: its one key is the text of the layout, so that
    the state of another layout differs in structure, in checkpoints too. Where the
    state of the inner transformation mirrors the parameters there is a `PackedTree`.
    """

    layout: dict[str, tuple[()]]
    inner_state: optax.OptState

    def unpacked(self, params: optax.Params) -> Any:
        """Return the inner state as it is without packing."""
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
    """Keep the state of small leaves in one flat buffer for each dtype.

    The updates are those of `inner`: to the last bit where XLA vectorizes the same loop
    in the same way, else to a rounding, as it may contract a product and a sum in one
    of them only; norms over all leaves are summed in another order.

    It is for a transformation that treats every coordinate alone, or all of them
    together, as a clip by the global norm does. Others are refused: `init` tries the
    transformation on a small tree.

    Args:
        inner: The transformation.
        largest: The bytes of the largest leaf that is packed; one of four times the
            default gains nothing (measured on CPU). Leaves that are not floating point,
            or of which no device has the whole, keep their state as it is. Under jit
            that does not show, so call `init` outside of it; inside, each device
            gathers what is small.
        elementwise: Vouch for `inner` instead of having it tried. Structural.

    Raises:
        ValueError: At `init`, if `inner` looks at single leaves, or cannot be tried; at
            `update`, if the gradients are not like the parameters.

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
        opt_state: A state with those of `packed` at any depth, or of an optimizer that
            steps through `PackedParams`.
        params: The parameters, as a tree; their shapes suffice. Under `optax.partition`
            or `optax.masked`, all of them.

    Returns:
        The state with the inner state in the place of every `PackedState`, and trees in
        the place of buffers.

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
    """Goes between the caller, who knows trees, and the inner transformation."""

    layout: Layout
    structure: Any
    form: Any  # the structure in which placeholders are leaves

    def packed(self, tree: Any) -> PackedTree:
        return gather(self.layout, fitted(self.layout, tree, "packed"))

    def argument(self, name: str, argument: Any) -> Any:
        """Translate an extra argument: a tree of gradients, or a function of trees."""
        mirrored = self._mirrored(name, argument)  # models that can be called, too
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
        """Pack what is a tree like the parameters; a bare array only by name."""
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
    """Hand an update back in the dtype of its gradient."""
    if is_placeholder(leaf) or dtype_of(leaf) == dtype_of(old):
        return leaf
    return leaf.astype(dtype_of(old))


def _in_places(layout: Layout, leaves: list[Any], params: optax.Params) -> Any:
    """Put leaves into the places of the parameters, by order or else by path."""
    given, structure = jax.tree.flatten(params)
    if len(given) == len(leaves):
        return structure.unflatten(leaves)
    found = {slot.path: leaf for slot, leaf in zip(layout, leaves, strict=True)}
    paths = [path for path, _ in paths_and_leaves(params)]
    unknown = [path for path in found if path not in paths]
    require(
        not unknown,
        f"params has no leaf {', '.join(unknown)} that the state was made for. "
        "Give the parameters that init was given.",
    )
    placed = [found.get(path, optax.MaskedNode()) for path in paths]
    return structure.unflatten(placed)
