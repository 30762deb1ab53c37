"""Evaluation: the parameters to evaluate with, where they are not the trained ones.

    evaluate at x,   train at w

A wrapper such as `iterate_average` or `schedule_free` trains the parameters w and keeps
better ones, x, in its state. Its state has a method `evaluated(params)`, which returns
x: shaped like the parameters, with an `optax.MaskedNode` for leaves it does not train.
`eval_params` finds such states at any depth.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptax._core.leaves import (
    dtype_of,
    is_complex,
    is_placeholder,
    is_trained,
    real_dtype,
)
from adaptax._core.states import (
    asked,
    key_of,
    optimizer_state,
    parts_in_use,
    without_variables,
)


def eval_params(opt_state: Any, params: optax.Params) -> optax.Params:
    """Return the parameters to evaluate with.

    Args:
        opt_state: The state of any optimizer: a chain, `optax.MultiSteps`,
            `optax.partition`, `optax.masked`, `optax.inject_hyperparams`, or another
            wrapper; a Flax `TrainState` or `nnx.Optimizer`. For a batch of states, use
            `jax.vmap(eval_params)`.
        params: The trained parameters. In NNX, the model, or its state: of `nnx.Param`
            alone or of all variables.

    Returns:
        The wrapper's evaluation parameters, in the structure and the dtypes of
        `params`. Without such a wrapper, and before the first step, `params`
        themselves. For an NNX model, a new model of the same kind, which may be put
        into eval mode while the other goes on training; variables that are not
        averaged, such as batch statistics, are as in the model (see
        `adaptax.flax.refresh_statistics`). Leaves of `params` that
        the optimizer does not train stay as they are. Under `optax.partition` or
        `optax.masked` each group fills in its own leaves, and under
        `optax.contrib.split_real_and_imaginary` the halves of complex leaves are
        joined. Of nested wrappers, the outermost counts.

    Raises:
        ValueError: If two wrappers side by side claim the same leaf, or if `params`
            lacks a leaf that is averaged.

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
    if _is_module(params):
        return _evaluated_module(opt_state, params)
    state = without_variables(optimizer_state(opt_state))
    plain = without_variables(params)
    own = _by_path(plain)
    chosen: dict[Any, Any] = {}
    for claims in _claims(state, plain):
        for path, leaf in claims.items():
            if path in chosen:
                raise ValueError(
                    "two wrappers side by side both have evaluation parameters for "
                    f"{_name(plain, path)}. Nest one inside the other, or keep one."
                )
            chosen[path] = jnp.asarray(leaf).astype(dtype_of(own[path]))
    if not chosen:
        return params
    return jax.tree.structure(params).unflatten((own | chosen).values())


def averaged(average: Any, params: optax.Params, step: jax.Array) -> Any:
    """Return an average, or the parameters themselves before the first step.

    The parameters may have more leaves than the average, and other container types, as
    the state of a whole NNX model has beside that of each `nnx.Param`.
    """
    plain = _by_path(params)

    def leaf(path, own):
        if not is_trained(own):
            return optax.MaskedNode()
        key = _keys(path)
        if key not in plain:
            raise ValueError(
                f"params has no leaf {jax.tree_util.keystr(path) or 'at the root'}, of "
                f"which the optimizer keeps an average. {_REMEDY}"
            )
        param = jnp.asarray(plain[key]).astype(dtype_of(own))
        if param.shape != own.shape:
            raise ValueError(
                f"{_name(params, key)} has shape {param.shape}, where the optimizer "
                f"keeps an average of shape {own.shape}. {_REMEDY}"
            )
        return jnp.where(step > 0, own, param)

    return jax.tree_util.tree_map_with_path(leaf, average, is_leaf=is_placeholder)


_REMEDY = (
    "Pass the parameters that init was given. What reshapes them, such as "
    "optax.flatten, belongs inside the wrapper that averages."
)


def _evaluated_module(opt_state: Any, model: Any) -> Any:
    """Return a new NNX model with the parameters to evaluate with."""
    from flax import nnx

    fixed, variables = nnx.split(model)
    return nnx.merge(fixed, eval_params(opt_state, variables))


def _is_module(tree: Any) -> bool:
    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and isinstance(tree, nnx.Module)


def _claims(state: Any, params: optax.Params) -> Iterator[dict[Any, Any]]:
    """Yield, by path, the evaluation parameters of the outermost states."""
    nodes = [state]
    while nodes:
        node = nodes.pop()
        if evaluated := asked(node, "evaluated"):
            yield _by_path(evaluated(params))
        elif unpacked := asked(node, "unpacked"):  # that of `adaptax.packed`
            nodes.append(unpacked(params))
        elif isinstance(node, optax.contrib.SplitRealAndImaginaryState):
            halves = jax.tree.map(_split, params)
            for claims in _claims(node.inner_state, halves):
                yield _joined(claims, _by_path(params))
        else:
            nodes.extend(parts_in_use(node).values())


class _Halves(NamedTuple):
    """A complex leaf as `optax.contrib.split_real_and_imaginary` shows it."""

    real: Any
    imaginary: Any


def _split(leaf: Any) -> Any:
    return _Halves(leaf.real, leaf.imag) if is_complex(leaf) else leaf


def _joined(claims: dict[Any, Any], params: dict[Any, Any]) -> dict[Any, Any]:
    """Join the real and imaginary parts of complex leaves."""
    joined = {path: leaf for path, leaf in claims.items() if path in params}
    for *path, _ in claims.keys() - joined.keys():
        dtype = real_dtype(dtype_of(params[*path,]))
        halves = (claims[*path, half].astype(dtype) for half in _Halves._fields)
        joined[*path,] = jax.lax.complex(*halves)
    return joined


def _by_path(tree: Any) -> dict[Any, Any]:
    """Return the leaves of a tree, without placeholders, by their paths."""
    pairs = jax.tree.leaves_with_path(tree, is_leaf=is_placeholder)
    return {_keys(path): leaf for path, leaf in pairs if not is_placeholder(leaf)}


def _name(tree: Any, keys: tuple[Any, ...]) -> str:
    """Return a leaf's name as written in code, such as `params['w']`."""
    found = (path for path, _ in jax.tree.leaves_with_path(tree) if _keys(path) == keys)
    return "params" + jax.tree_util.keystr(next(found))


def _keys(path: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(key_of(entry) for entry in path)
