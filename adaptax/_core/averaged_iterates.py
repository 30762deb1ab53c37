"""Averages of the iterates, shared by the wrapper and the optimizers that have one.

    w̄_t = w̄_{t−1} + c_t (w_t − w̄_{t−1})       where the model is evaluated

See `adaptax.wrappers.iterate_average` for the weights c_t and the source.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptax._core import checks, counters, snapshots
from adaptax._core.checks import Scalar
from adaptax._core.coordinates import (
    accumulators,
    average_weight,
    by_coordinate,
)
from adaptax._core.eval_params import averaged
from adaptax._core.guards import guarded
from adaptax._core.usable_gradients import usable


class IterateAverageState(NamedTuple):
    """The state of `iterate_average`.

    `step` counts the points averaged, from 0. `average` is w̄, shaped like the
    parameters, in float32 for half precision.
    """

    step: jax.Array
    average: optax.Params
    inner_state: optax.OptState

    def evaluated(self, params: optax.Params) -> Any:
        """Return the average, for `eval_params`."""
        return averaged(self.average, params, self.step)


def with_average(
    inner: optax.GradientTransformation,
    gamma: Scalar,
    *,
    decay: Scalar | None = None,
    accumulator_dtype: Any,
    who: str = "iterate_average",
) -> optax.GradientTransformationExtraArgs:
    """Average an optimizer's iterates; see `adaptax.iterate_average`.

    `who` is the name of the method in messages.
    """
    checks.number("gamma", gamma, at_least=0)
    if decay is not None:
        checks.averaging_factor("decay", decay)
    inner = optax.with_extra_args_support(inner)

    def init(params):
        return IterateAverageState(
            step=counters.zero(),
            average=accumulators(params, dtype=accumulator_dtype),
            inner_state=inner.init(params),
        )

    def weight(step):
        if decay is not None:
            return average_weight(decay, step)
        real = jnp.result_type(float)
        order, step = jnp.asarray(gamma).astype(real), step.astype(real)
        return (1 + order) / (step + order)

    def rule(u, mean, w, weight):
        return u, mean + weight * jnp.where(usable(w), w - mean, 0)

    def update(updates, state, params=None, **extra_args):
        params = checks.required_params(params, who)
        updates, inner_state = inner.update(
            updates, state.inner_state, params, **extra_args
        )
        step = counters.increment(state.step)
        _, average = by_coordinate(
            rule,
            updates,
            state.average,
            reads=(snapshots.landing(params, updates),),
            weight=weight(step),
        )
        return updates, IterateAverageState(step, average, inner_state)

    return guarded(optax.GradientTransformationExtraArgs(init, update))
