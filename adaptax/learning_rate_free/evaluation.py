"""Evaluation: which parameters to judge a model by, when an optimizer keeps others.

    evaluate at x,   train at w

A wrapper such as `iterate_average` or `schedule_free` trains the parameters w and keeps
better ones, x, in its state. The state says so by a method `evaluated(params)`, which
gives x: shaped like the parameters, with an `optax.MaskedNode` wherever it has no say.
`eval_params` finds such states at any depth.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from adaptax.leaves import dtype_of, is_placeholder, is_trained
from adaptax.states import (
    asked,
    optimizer_state,
    parts_in_use,
    without_variables,
)


def eval_params(opt_state: Any, params: optax.Params) -> optax.Params:
    """Give the parameters to evaluate with.

    Args:
        opt_state: The state of any optimizer: a chain, `optax.MultiSteps`,
            `optax.partition`, `optax.masked`, `optax.inject_hyperparams`, or another
            wrapper; a Flax `TrainState` or `nnx.Optimizer`. For a batch of states, use
            `jax.vmap(eval_params)`.
        params: The parameters that are trained; in NNX, `nnx.state(model, nnx.Param)`.

    Returns:
        The parameters that the wrapper asks for, in the structure and the dtypes of
        `params`; `params` themselves where none asks for others, and before the first
        step. Under `optax.partition` or `optax.masked` the leaves of each group are put
        into their places. Of a wrapper around a wrapper, the outer one counts.

    Raises:
        ValueError: If two wrappers side by side ask for the same leaf.

    >>> import adaptax
    >>> import optax
    >>> tx = optax.chain(adaptax.iterate_average(adaptax.gradient_descent(1.0)))
    >>> w, state = 0.0, tx.init(0.0)
    >>> for gradient in (-1.0, -1.0):
    ...     updates, state = tx.update(gradient, state, w)
    ...     w = w + updates
    >>> float(w), float(eval_params(state, w))
    (2.0, 1.9)
    """
    state = without_variables(optimizer_state(opt_state))
    leaves, structure = jax.tree.flatten(params)
    plain = without_variables(params)
    chosen: list[Any] = list(jax.tree.leaves(plain))
    claimed = [False] * len(leaves)
    for asking in _asking(state, plain):
        asked = _spread(asking.evaluated(plain), plain)
        for index, leaf in enumerate(asked):
            if is_placeholder(leaf):
                continue
            if claimed[index]:
                path = _path(plain, index)
                raise ValueError(
                    f"two wrappers side by side ask to evaluate params{path} at "
                    "different values. Put one of them around the other, or keep one."
                )
            claimed[index] = True
            chosen[index] = jnp.asarray(leaf).astype(dtype_of(chosen[index]))
    return structure.unflatten(chosen) if any(claimed) else params


def averaged(average: Any, params: optax.Params, step: jax.Array) -> Any:
    """Give an average, or the parameters themselves where it has no step in it yet."""

    def leaf(own, param):
        if not is_trained(own):
            return optax.MaskedNode()
        param = jnp.asarray(param).astype(dtype_of(own))
        return jnp.where(step > 0, own, param)

    return jax.tree.map(leaf, average, params, is_leaf=is_placeholder)


def _asking(state: Any, params: optax.Params) -> list[Any]:
    """List the states that ask for other parameters, the outermost in each branch."""
    found, nodes = [], [state]
    while nodes:
        node = nodes.pop()
        if asked(node, "evaluated"):
            found.append(node)
        elif unpacked := asked(node, "unpacked"):  # that of `adaptax.packed`
            nodes.append(unpacked(params))
        else:
            nodes.extend(parts_in_use(node).values())
    return found


def _spread(tree: Any, params: optax.Params) -> list[Any]:
    """List the leaves of a tree by those of the parameters; a mask may hide many."""

    def leaf(own, part):
        if is_placeholder(own):
            return jax.tree.map(lambda _: optax.MaskedNode(), part)
        return own

    spread = jax.tree.map(leaf, tree, params, is_leaf=is_placeholder)
    return jax.tree.structure(params).flatten_up_to(spread)


def _path(params: optax.Params, index: int) -> str:
    path, _ = jax.tree.leaves_with_path(params)[index]
    return jax.tree_util.keystr(path)
