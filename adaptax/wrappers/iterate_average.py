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

from typing import Any

import optax

from adaptax._core.averaged_iterates import with_average
from adaptax._core.checks import Scalar
from adaptax._core.methods import Method
from adaptax._core.words import translating


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
    return with_average(inner, gamma, decay=decay, accumulator_dtype=accumulator_dtype)


METHOD = Method(
    {"learning_rate": 0.1, "gamma": 8.0},
    source="Shamir & Zhang (2013)",
    variants=({"decay": 0.9},),
    needs=frozenset({"params"}),
)
