"""Gradient accumulation that averages the loss as well.

    ḡ = (1/k) Σ gᵢ,   value = (1/k) Σ valueᵢ       over k micro-batches

The inner transformation sees one step every k calls, with the mean gradient and the
mean `value`; in between, the updates are 0. `optax.MultiSteps` hands a loss-driven rate
the loss of the last micro-batch alone.

Source: the mean over a batch is the mean of the means over equal parts of it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptax import checks, counters
from adaptax.checks import Scalar, require
from adaptax.coordinates import accumulators, by_coordinate
from adaptax.leaves import dtype_of, is_trained
from adaptax.scalars import either


class AccumulateState(NamedTuple):
    """The state of `accumulate`.

    `micro_step` counts the micro-batches summed so far, from 0; `gradient_sum` is
    shaped like the parameters, float32 at least; `value_sum` and `value_count` are over
    the values that were finite.
    """

    micro_step: jax.Array
    gradient_sum: optax.Updates
    value_sum: jax.Array
    value_count: jax.Array
    inner_state: optax.OptState


def accumulate(
    inner: optax.GradientTransformation, every: Scalar
) -> optax.GradientTransformationExtraArgs:
    """Average the gradients and the `value` of several micro-batches for one step.

    An element of a gradient that is not finite counts as 0, and a value that is not
    finite is left out of the mean (where none is finite, the inner transformation sees
    NaN). Other extra arguments are those of the last micro-batch.

    Args:
        inner: The transformation that takes a step every `every` calls.
        every: k >= 1, the number of micro-batches to a step.

    Raises:
        ValueError: At `update`, if `value` is not a scalar.
    """
    checks.count("every", every, at_least=1)
    inner = optax.with_extra_args_support(inner)

    def init(params):
        return AccumulateState(
            micro_step=counters.zero(),
            gradient_sum=accumulators(params),
            value_sum=jnp.zeros((), jnp.float32),
            value_count=counters.zero(),
            inner_state=inner.init(params),
        )

    def update(updates, state, params=None, **extra_args):
        state = _added(updates, extra_args.get("value"), state)
        if extra_args.get("value") is not None:
            count = state.value_count.astype(jnp.float32)
            mean = state.value_sum / jnp.maximum(count, 1)
            extra_args["value"] = jnp.where(count > 0, mean, jnp.nan)

        def wait():
            return [jnp.zeros_like(leaf) for leaf in _trained(updates, updates)], state

        def step():
            mean = _mean(updates, state.gradient_sum, every)
            new_updates, inner_state = inner.update(
                mean, state.inner_state, params, **extra_args
            )
            return _trained(updates, new_updates), _restarted(state, inner_state)

        done = state.micro_step >= jnp.asarray(every).astype(jnp.int32)
        leaves, state = either(done, step, wait)
        return _with_trained(updates, leaves), state

    return optax.GradientTransformationExtraArgs(init, update)


def _added(updates, value, state) -> AccumulateState:
    """Count and add one micro-batch."""
    _, sums = by_coordinate(
        lambda g, add, total: (g, add(total, g)), updates, state.gradient_sum
    )
    micro_step = counters.increment(state.micro_step)
    state = state._replace(micro_step=micro_step, gradient_sum=sums)
    if value is None:
        return state
    value = jnp.asarray(value).astype(jnp.float32)
    require(
        value.shape == (),
        f"value must be a scalar, got shape {value.shape}. Take its mean.",
    )
    finite = jnp.isfinite(value)
    return state._replace(
        value_sum=state.value_sum + jnp.where(finite, value, 0),
        value_count=state.value_count + finite.astype(jnp.int32),
    )


def _restarted(state, inner_state) -> AccumulateState:
    """Empty the sums; the inner state keeps the types that it had."""
    empty = jax.tree.map(jnp.zeros_like, state._replace(inner_state=()))
    inner_state = jax.tree.map(
        lambda new, old: jnp.asarray(new).astype(old.dtype),
        inner_state,
        state.inner_state,
    )
    return empty._replace(inner_state=inner_state)


def _mean(updates, sums, every):
    return _with_trained(
        updates,
        [
            (total / jnp.asarray(every).astype(total.dtype)).astype(dtype_of(leaf))
            for leaf, total in zip(
                _trained(updates, updates), _trained(updates, sums), strict=True
            )
        ],
    )


def _trained(updates, tree) -> list[Any]:
    """List the leaves of a tree that stand where the updates have trained ones."""
    leaves, structure = jax.tree.flatten(updates)
    pairs = zip(leaves, structure.flatten_up_to(tree), strict=True)
    return [other for leaf, other in pairs if is_trained(leaf)]


def _with_trained(updates, replacements):
    """Put leaves into the places of the trained ones."""
    remaining = iter(replacements)
    return jax.tree.map(
        lambda leaf: next(remaining) if is_trained(leaf) else leaf, updates
    )
