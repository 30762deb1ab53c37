"""Iterate averaging: evaluate at an average of the parameters so far.

    polynomial:    w̄_t = w̄_{t−1} + (1 + γ)/(t + γ) · (w_t − w̄_{t−1}),   t = 1, 2, …
    exponential:   w̄_t = w̄_{t−1} + (1 − b)/(1 − bᵗ) · (w_t − w̄_{t−1})

The steps are those of the inner optimizer; only the evaluation parameters differ
(`eval_params`). The average replaces the decay of the learning rate, which methods such
as DoG lack. The polynomial average weights the t-th point about as t^γ: it forgets the
first part of a run, whatever its length. γ = 0 is the plain mean.

Source: Shamir & Zhang (2013), "Stochastic Gradient Descent for Non-smooth
Optimization: Convergence Results and Optimal Averaging Schemes", ICML (γ is η there);
Polyak & Juditsky (1992), "Acceleration of Stochastic Approximation by Averaging".
`optax.ema` averages updates, not parameters.
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
from adaptax._core.methods import Method
from adaptax._core.usable_gradients import usable
from adaptax._core.words import translating


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


@translating
def iterate_average(
    inner: optax.GradientTransformation,
    gamma: Scalar = 8.0,
    *,
    decay: Scalar | None = None,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Average the parameters along an optimizer's path.

    By default later points weigh more. In PyTorch's `AveragedModel` all weigh the same,
    which is `gamma=0`, and Keras's `use_ema` has a `decay` of 0.99.

    An element that is not finite after the step is left out of its average.

    Args:
        inner: The optimizer; its updates do not change.
        gamma: γ >= 0: the larger, the more the last points weigh. Not used with a
            `decay`.
        decay: b in [0, 1), for a bias-corrected exponential average; `None` for the
            polynomial one. Whether it is `None` is structural.
        accumulator_dtype: The dtype of the average; by default that of the parameters,
            or float32 for half precision.

    Raises:
        ValueError: At `update`, if `params` is missing.
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
        params = checks.required_params(params, "iterate_average")
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


METHOD = Method(
    {"learning_rate": 0.1, "gamma": 8.0},
    source="Shamir & Zhang (2013)",
    variants=({"decay": 0.9},),
    needs=frozenset({"params"}),
)
