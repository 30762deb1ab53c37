"""Probing: apply a transformation to small updates when it is built.

The transformation is traced on a vector of two elements, and the trace is evaluated at
once, even inside jit: a traced number is replaced by its value for a fixed value of all
inputs of the enclosing program. So the sign of −η is found although η is not known.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jax.extend.core import Literal

_UPDATES = (np.array([0.01, 0.02], np.float32), np.array([0.02, 0.01], np.float32))
_STEPS = 256  # for one that accumulates gradients, or whose rate starts at 0
_ENOUGH = 3


def probe(
    transformation: optax.GradientTransformation, unknown: float = 0.5
) -> list[tuple[np.ndarray, np.ndarray]] | None:
    """Return pairs of a small update and the transformed update, where that is not 0.

    The parameters equal the updates, as if the loss were ½‖w‖².

    Args:
        transformation: Any transformation, of any library.
        unknown: The value to assume for the inputs of the program being traced.

    Returns:
        At most three pairs of vectors of two elements; `None` if the transformation
        needs arguments that are not known here.
    """
    transformation = optax.with_extra_args_support(transformation)
    quiet = (
        jax.numpy_dtype_promotion("standard"),
        jax.debug_nans(False),
        jax.transfer_guard("allow"),
    )
    with quiet[0], quiet[1], quiet[2]:
        for extra_args in _possible_extra_args():
            try:
                return _run(transformation, extra_args, unknown)
            except Exception as error:  # other libraries may raise anything
                extra_args.update(_missing(error, extra_args))
        return None


def _possible_extra_args() -> Iterator[dict[str, Callable[[Any], Any]]]:
    """Yield sets of extra arguments of `update`, as functions of the parameters."""
    loss = {"value": _loss, "grad": lambda w: w, "value_fn": lambda w: _loss}
    more = {
        "grad_fn": lambda w: lambda params, *rest: params,
        "key": lambda w: jax.random.key(0),
        "micro_norms": lambda w: jnp.full((4,), jnp.linalg.norm(w["w"])),
    }
    everything = loss | more
    yield everything
    yield everything  # with what the error said was missing
    yield everything
    yield loss
    yield {"grad_fn": more["grad_fn"]}
    yield {}


def _missing(error: Exception, extra_args: dict[str, Any]) -> dict[str, Any]:
    """Return the loss for every missing metric that an error message names."""
    names = re.findall(r"[`']([A-Za-z_]\w*)[`']", str(error))
    return {name: _loss for name in names if name not in extra_args}


def _loss(params: Any) -> jax.Array:
    return 0.5 * jnp.sum(params["w"] ** 2)


def _run(transformation, makers, unknown) -> list[tuple[np.ndarray, np.ndarray]]:
    def start(update):
        return transformation.init({"w": update})

    def advance(update, state):
        params = {"w": update}
        extra_args = {name: make(params) for name, make in makers.items()}
        updates, state = transformation.update(params, state, params, **extra_args)
        return updates["w"], state

    state, pairs = _computed(start, unknown, _UPDATES[0])(_UPDATES[0]), []
    step = _computed(advance, unknown, _UPDATES[0], state)
    for index in range(_STEPS):
        update = _UPDATES[index % 2]
        result, state = step(update, state)
        if np.any(np.asarray(result)):
            pairs.append((update, np.asarray(result)))
        if len(pairs) == _ENOUGH:
            break
    return pairs


def _computed(
    function: Callable[..., Any], unknown: float, *examples: Any
) -> Callable[..., Any]:
    """Trace a function once, and return one that evaluates it even while tracing."""
    traced, shape = jax.make_jaxpr(function, return_shape=True)(*examples)
    structure = jax.tree.structure(shape)
    with jax.ensure_compile_time_eval():
        consts = [_stand_in(const, unknown) for const in traced.consts]

    def compute(*arguments):
        with jax.ensure_compile_time_eval():
            leaves = jax.tree.leaves(arguments)
            return structure.unflatten(_evaluate(traced.jaxpr, consts, leaves))

    return compute


def _evaluate(jaxpr: Any, consts: list[Any], arguments: list[Any]) -> list[Any]:
    """Evaluate a jaxpr operation by operation, without compiling it as a whole."""
    names = (*jaxpr.constvars, *jaxpr.invars)
    values = dict(zip(names, (*consts, *arguments), strict=True))

    def read(atom):
        return atom.val if isinstance(atom, Literal) else values[atom]

    for eqn in jaxpr.eqns:
        results = _apply(eqn.primitive, eqn.params, list(map(read, eqn.invars)))
        values.update(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _apply(primitive: Any, params: Any, inputs: list[Any]) -> list[Any]:
    inner = params.get("jaxpr", params.get("call_jaxpr"))
    called = primitive.name in ("jit", "pjit", "custom_jvp_call", "custom_vjp_call")
    if primitive.name == "cond":  # compiling both branches takes 0.2 s
        index, *inputs = inputs
        branches = params["branches"]
        inner = branches[int(np.clip(np.asarray(index), 0, len(branches) - 1))]
        called = True
    if called and inner is not None:
        return _evaluate(inner.jaxpr, inner.consts, inputs)
    results = primitive.bind(*inputs, **params)
    return results if primitive.multiple_results else [results]


def _stand_in(value: Any, unknown: float) -> Any:
    """Return the value of a traced number for one value of all inputs."""
    if not isinstance(value, Tracer):
        return value
    lowered = value.full_lower()
    if lowered is not value:
        return _stand_in(lowered, unknown)
    if hasattr(value, "batch_dim"):  # of vmap
        whole = _stand_in(getattr(value, "val", None), unknown)
        axis = getattr(value, "batch_dim", None)
        return whole if axis is None else jnp.take(whole, 0, axis=axis)
    if hasattr(value, "primal"):  # of grad
        return _stand_in(getattr(value, "primal", None), unknown)
    parent = getattr(value, "parent", None)  # of jit
    if parent is None:
        return jnp.full(value.shape, unknown).astype(value.dtype)
    inputs = [_stand_in(tracer, unknown) for tracer in parent.in_tracers]
    results = _apply(parent.primitive, parent.params, inputs)
    return results[list(parent.outvars).index(value.val)]
