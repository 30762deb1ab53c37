"""Gradient accumulation: one step from several batches, with the mean loss.

    ḡ = (1/n) Σ gᵢ,   value = (1/n) Σ valueᵢ       over n micro-batches

The inner transformation is updated once every k calls, with the mean gradient and the
mean `value`; in between, the updates are 0. n is k, or less if a step is taken early by
`flush=True`. `optax.MultiSteps` passes on only the loss of the last micro-batch, and
cannot step early.

Source: the mean over a batch is the mean of the means over equal parts of it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptax._core import checks, counters
from adaptax._core.checks import Scalar, require
from adaptax._core.coordinates import accumulators, by_coordinate
from adaptax._core.extra_args import as_metric
from adaptax._core.guards import flattened, guarded
from adaptax._core.leaves import (
    by_parts,
    dtype_of,
    is_trained,
    kept_dtype,
    trained_leaves,
    with_trained,
)
from adaptax._core.methods import Method
from adaptax._core.scalars import either
from adaptax._core.varying import axes_of, spread
from adaptax._core.words import translating


class AccumulateState(NamedTuple):
    """The state of `accumulate`.

    `step` counts the steps of the inner transformation, from 0, and `micro_step` the
    micro-batches since the last step. `gradient_sum` is shaped like the parameters, in
    float32 at least. `value_sum` and `value_count` are over the finite values.
    """

    step: jax.Array
    micro_step: jax.Array
    gradient_sum: optax.Updates
    value_sum: jax.Array
    value_count: jax.Array
    inner_state: optax.OptState


@translating
def accumulate(
    inner: optax.GradientTransformation,
    every: Scalar | Callable[[jax.Array], Any],
) -> optax.GradientTransformationExtraArgs:
    """Average the gradients and the `value` of several micro-batches for one step.

    Gradients are averaged, as in `optax.MultiSteps`; PyTorch's `backward` sums them.

    An element of a gradient that is not finite counts as 0. A value that is not finite
    is left out of the mean, which is infinite if none is finite. Other extra arguments
    are those of the last micro-batch.

    With the extra argument `flush=True` of `update`, which may be traced, the step is
    taken at this call, with the micro-batches so far. Use it for the last micro-batch
    of an epoch. Otherwise, if their number is not a multiple of k, the rest is averaged
    with micro-batches of the next epoch, and at the end of training not used.

    Args:
        inner: The transformation that is updated every `every` calls.
        every: k >= 1, the micro-batches per step; or a function that returns it for the
            number of steps so far, an int32 scalar, as in `optax.MultiSteps`. Its value
            is rounded down, to at least 1.

    Raises:
        TypeError: At `update`, if `value` is not a number.
        ValueError: At `update`, if `value` is not a scalar.

    >>> import adaptax
    >>> optimizer = accumulate(adaptax.gradient_descent(1.0), every=4)
    >>> state, updates = optimizer.init(0.0), []
    >>> for gradient in (1.0, 2.0, 3.0):
    ...     last = gradient == 3.0
    ...     update, state = optimizer.update(gradient, state, 0.0, flush=last)
    ...     updates.append(float(update))
    >>> updates
    [0.0, 0.0, -2.0]
    """
    if not callable(every):
        checks.count("every", every, at_least=1)
    inner = optax.with_extra_args_support(inner)

    def init(params):
        sums = jnp.zeros((), jnp.float32), counters.zero()
        value_sum, value_count = spread(sums, axes_of(params))
        return AccumulateState(
            step=counters.zero(),
            micro_step=counters.zero(),
            gradient_sum=accumulators(params),
            value_sum=value_sum,
            value_count=value_count,
            inner_state=inner.init(params),
        )

    def update(updates, state, params=None, **extra_args):
        state = _added(updates, extra_args.get("value"), state)
        if extra_args.get("value") is not None:
            count = state.value_count.astype(jnp.float32)
            mean = state.value_sum / jnp.maximum(count, 1)
            extra_args["value"] = jnp.where(count > 0, mean, jnp.inf)

        def wait():
            return [jnp.zeros_like(leaf) for leaf in trained_leaves(updates)], state

        def step():
            mean = _mean(updates, state.gradient_sum, state.micro_step)
            new_updates, inner_state = inner.update(
                mean, state.inner_state, params, **extra_args
            )
            return _trained(updates, new_updates), _restarted(state, inner_state)

        done = state.micro_step >= _number(every, state.step)
        done = done | _boolean("flush", extra_args.get("flush", False))
        leaves, state = either(done, step, wait)
        return with_trained(updates, leaves), state

    return guarded(optax.GradientTransformationExtraArgs(init, update))


def _added(updates, value, state) -> AccumulateState:
    """Add one micro-batch to the sums."""
    _, sums = by_coordinate(
        lambda g, total: (g, total + g), updates, state.gradient_sum
    )
    micro_step = counters.increment(state.micro_step)
    state = state._replace(micro_step=micro_step, gradient_sum=sums)
    if value is None:
        return state
    value = as_metric("value", value)
    finite = jnp.isfinite(value)
    return state._replace(
        value_sum=state.value_sum + jnp.where(finite, value, 0),
        value_count=state.value_count + finite.astype(jnp.int32),
    )


def _restarted(state, inner_state) -> AccumulateState:
    """Reset the sums; the inner state keeps its dtypes."""
    empty = jax.tree.map(jnp.zeros_like, state._replace(inner_state=()))
    empty = empty._replace(step=counters.increment(state.step))
    inner_state = jax.tree.map(
        lambda new, old: jnp.asarray(new).astype(old.dtype),
        inner_state,
        state.inner_state,
    )
    return empty._replace(inner_state=inner_state)


def _number(every: Any, step: jax.Array) -> jax.Array:
    """Return the number of micro-batches for the next step."""
    number = jnp.asarray(every(step) if callable(every) else every)
    require(
        number.shape == (),
        f"every must return a scalar, got an array of shape {number.shape}.",
    )
    return jnp.maximum(number.astype(jnp.int32), 1)


def _boolean(name: str, value: Any) -> jax.Array:
    flag = jnp.asarray(value)
    if flag.dtype != bool or flag.shape != ():
        raise TypeError(f"{name} must be a boolean, got {value!r}.")
    return flag


def _mean(updates, sums, number):
    def mean(leaf, total):
        average = by_parts(lambda part: part / number.astype(part.dtype), total)
        return average.astype(kept_dtype(dtype_of(leaf), total.dtype))

    leaves, totals = trained_leaves(updates), _trained(updates, sums)
    return with_trained(updates, map(mean, leaves, totals))


def _trained(updates, tree) -> list[Any]:
    """Return the leaves of a tree at the positions of the trained updates."""
    leaves, structure = flattened(updates)
    pairs = zip(leaves, structure.flatten_up_to(tree), strict=True)
    return [other for leaf, other in pairs if is_trained(leaf)]


METHOD = Method(
    {"learning_rate": 0.1, "every": 2},
    source="the mean over a batch is the mean of the means over equal parts of it",
)
