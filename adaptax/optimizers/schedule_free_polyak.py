"""Schedule-free Polyak: Adam that needs a bound of the loss, and no schedule.

    y_t = (1 − β) z_t + β x_t                           where the gradient is taken
    D_t = diag(√v̂_t + ε),   v̂: the bias-corrected average of g² with β₂
    γ_t = α [ℓ(y_t) − ℓ* + β ⟨g, z_t − x_t⟩]₊ / max(Σ g² / D_t, M)
    z_{t+1} = z_t − γ_t g / D_t
    x_{t+1} = x_t + (z_{t+1} − x_t) / t                 where the model is evaluated

The numerator is the gap between the loss at z, extrapolated linearly from y, and the
bound. The trained parameters are y; `eval_params` returns x at any time.

Source: Oikonomou, Buchholz, Pun, Gower & Loizou (2025), "Taking the Road Less Scheduled
with Adaptive Polyak Steps" (arXiv 2511.07767, whose first version has another title),
the safeguarded step for Adam; Defazio et al. (2024), "The Road Less Scheduled" (arXiv
2405.15682), for the averages. The equations were compared with a transcription of the
paper in zij's catalogue of optimizers, not with the paper itself. α is our addition. A
loss or gradient that is not finite is skipped and counted. Optax has no such method.
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
    divide,
    magnitudes,
    root,
)
from adaptax._core.eval_params import averaged
from adaptax._core.global_guard import is_usable, preconditioned
from adaptax._core.guards import guarded
from adaptax._core.leaves import (
    abs_sq,
    dtype_of,
    inner_product,
    is_placeholder,
    is_trained,
    kept_dtype,
)
from adaptax._core.methods import Method
from adaptax._core.plausibility import Usual, judged, usual
from adaptax._core.rates import LearningRate, seat
from adaptax._core.scalars import real
from adaptax._core.truncated_model import read_loss
from adaptax._core.words import translating


class ScheduleFreePolyakState(NamedTuple):
    """The state of `schedule_free_polyak`.

    `step` counts the steps. `skipped` counts the losses and gradients that were not
    finite, and the losses that were absurd beside the `usual` ones (see
    `adaptax._core.plausibility`). `learning_rate` is γ/α of the last step, initially 1,
    and `rate` the state of α. `fast` is z, `average` x and `mean_sq` v̂, shaped like the
    parameters, in float32 for half precision.
    """

    step: jax.Array
    skipped: jax.Array
    learning_rate: jax.Array
    fast: optax.Params
    average: optax.Params
    mean_sq: optax.Updates
    rate: Any
    usual: Usual

    def evaluated(self, params: optax.Params) -> Any:
        """Return x, for `eval_params`."""
        return averaged(self.average, params, self.step)


@translating
def schedule_free_polyak(
    learning_rate: LearningRate = 1.0,
    *,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    lower_bound: Scalar = 0.0,
    least_norm_sq: Scalar = 1e-8,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Schedule-free Adam that infers its rate; needs `params`, and the loss as `value`.

    Args:
        learning_rate: α, a factor of the inferred rate, anything that
            `adaptax.descend` takes. For noisy losses take less than 1.
        b1: β in [0, 1]. At 1 the gradients are taken at the average x, at 0 at z.
        b2: β₂, the averaging factor of the squared gradient, 0 <= β₂ < 1.
        eps: ε >= 0, added outside the root. Where the divisor is 0, so is the update.
        lower_bound: ℓ*, a lower bound of the loss, in its unit. At or below it, only
            the average moves.
        least_norm_sq: M > 0, which keeps the rate finite where the gradient vanishes.
        accumulator_dtype: The dtype of z, x and v̂; by default that of the parameters,
            or float32 for half precision.

    Raises:
        TypeError: At `update`, if `value` is missing.
        ValueError: At `update`, if `params` is missing.

    >>> optimizer = schedule_free_polyak()
    >>> w, state = 3.0, optimizer.init(3.0)
    >>> for _ in range(3):  # the loss is |w|
    ...     updates, state = optimizer.update(1.0, state, w, value=w)
    ...     w = w + updates
    >>> round(float(w), 2)
    0.0
    """
    checks.number("b1", b1, at_least=0, at_most=1)
    checks.averaging_factor("b2", b2)
    checks.number("eps", eps, at_least=0)
    checks.number("lower_bound", lower_bound)
    checks.number("least_norm_sq", least_norm_sq, above=0)
    base_rate = seat(learning_rate)

    def init(params):
        return ScheduleFreePolyakState(
            step=counters.zero(),
            skipped=counters.zero(),
            learning_rate=real(1.0),
            fast=accumulators(params, dtype=accumulator_dtype),
            average=accumulators(params, dtype=accumulator_dtype),
            mean_sq=magnitudes(params, dtype=accumulator_dtype),
            rate=base_rate.init(),
            usual=usual(),
        )

    def update(updates, state, params=None, **extra_args):
        params = checks.required_params(params, "schedule_free_polyak", ", value=loss")
        value = read_loss(extra_args)
        alpha, rate = base_rate.read(state.rate, **extra_args)
        verdict, new_usual = judged(state.usual, value)
        usable = is_usable(updates) & verdict.plausible
        step = counters.increment(state.step, where=usable)
        cleaned, mean_sq = by_coordinate(
            _measure,
            updates,
            state.mean_sq,
            where=usable,
            weight=average_weight(b2, counters.increment(state.step)),
        )
        first = state.step == 0
        fast = snapshots.take(first, params, state.fast)
        average = snapshots.take(first, params, state.average)
        ahead = inner_product(cleaned, fast) - inner_product(cleaned, average)
        gap = value - real(lower_bound) + real(b1) * ahead
        norm_sq = _norm_sq(cleaned, mean_sq, eps)
        polyak = jnp.maximum(gap, 0) / jnp.maximum(norm_sq, real(least_norm_sq))
        polyak = jnp.where(usable & jnp.isfinite(polyak), polyak, state.learning_rate)
        updates, fast, average = by_coordinate(
            _move,
            updates,
            fast,
            average,
            reads=(mean_sq, params),
            where=usable,
            gamma=alpha * polyak,
            c=1 / jnp.maximum(step, 1).astype(jnp.float32),
            b1=b1,
            eps=eps,
        )
        return updates, ScheduleFreePolyakState(
            step=step,
            skipped=counters.increment(state.skipped, where=~usable),
            learning_rate=polyak,
            fast=fast,
            average=average,
            mean_sq=mean_sq,
            rate=rate,
            usual=new_usual,
        )

    return guarded(optax.GradientTransformationExtraArgs(init, update), whole=True)


def _measure(g, mean_sq, weight):
    return g, mean_sq + weight * (abs_sq(g) - mean_sq)


def _move(g, fast, average, mean_sq, y, gamma, c, b1, eps):
    fast = fast - gamma * divide(g, root(mean_sq) + eps)
    average = average + c * (fast - average)
    return average + (1 - b1) * (fast - average) - y, fast, average


def _norm_sq(gradients: Any, mean_sq: Any, eps: Scalar) -> jax.Array:
    """Return Σ |g|² / (√v̂ + ε), computed in the dtype of v̂ where that is wider."""
    wide = jax.tree.map(_in_type_of, gradients, mean_sq, is_leaf=is_placeholder)
    return inner_product(wide, preconditioned(wide, mean_sq, eps))


def _in_type_of(g: Any, square: Any) -> Any:
    if not is_trained(g):
        return g
    return jnp.asarray(g).astype(kept_dtype(square.dtype, dtype_of(g)))


METHOD = Method(
    {
        "learning_rate": 0.5,
        "b1": 0.8,
        "b2": 0.9,
        "eps": 1e-6,
        "lower_bound": -1.0,
        "least_norm_sq": 1e-6,
    },
    source="Oikonomou, Buchholz, Pun, Gower & Loizou (2025)",
    needs=frozenset({"params", "value"}),
    differs="Optax has no schedule-free method at Polyak's rate.",
    rate="path",
)
