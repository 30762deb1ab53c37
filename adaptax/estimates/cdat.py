"""CDAT: the rate at which a step comes out at the edge of stability, or near it.

    n = max(⟨g_t, u_t⟩, 0),   d = |⟨u_t, H_t u_t⟩| + ε
    n̄ ← β n̄ + (1 − β) n,      d̄ ← β d̄ + (1 − β) d
    η_t = σ n̄ / d̄

u is the direction, H the Hessian: H u is the derivative of the gradient along u, about
the work of one more gradient. σ = 1 goes to the minimum of the loss along the
direction, were it a parabola; σ = 2 to as high a loss on its other side. There the
curvature regulates itself: on full batches 2 is best, on small ones a little less.

Source: Roulet, Agarwala, Grill, Swirszcz, Blondel & Pedregosa (2024), "Stepping on the
Edge: Curvature Aware Learning Rate Tuners", NeurIPS (arXiv 2407.06183).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptax._core import checks, counters
from adaptax._core.checks import Scalar
from adaptax._core.coordinates import divide
from adaptax._core.estimating import estimate, finite
from adaptax._core.following import read_extra
from adaptax._core.leaves import dtype_of, inner_product, is_placeholder, is_trained
from adaptax._core.scalars import real
from adaptax._core.words import translating


class CdatState(NamedTuple):
    """The state of `cdat`, float32 scalars.

    `learning_rate` is η, the rate applied, 0 before the first step; `slope` and
    `curvature` are n̄ and d̄; `skipped` counts the updates that were not finite.
    """

    learning_rate: jax.Array
    slope: jax.Array
    curvature: jax.Array
    skipped: jax.Array

    def has_unit(self) -> bool:
        """Return True: a rate by itself; see `adaptax._core.seats`."""
        return True


@translating
def cdat(
    sigma: Scalar = 2.0, decay: Scalar = 0.9, eps: Scalar = 1e-12
) -> optax.GradientTransformationExtraArgs:
    """Take the slope over the curvature along the direction for the rate.

    Put it right behind a direction, and tell `update` the gradient as a function of the
    parameters, on the same batch: `tx.update(grads, state, params, grad_fn=...)`. Under
    `optax.partition` and `optax.masked` that function is given the parameters with the
    others masked.

    Args:
        sigma: σ > 0: 2 for full batches, a little less than 2 for small ones.
        decay: β in [0, 1), of both averages; both start at 0, which cancels.
        eps: ε >= 0. Where the divisor is 0, so is the rate.

    Raises:
        TypeError: At `update`, if `grad_fn` is missing.
        ValueError: At `update`, if `params` is missing.

    >>> import adaptax
    >>> optimizer = adaptax.gradient_descent(cdat(sigma=1.0, eps=0.0))
    >>> state, gradient = optimizer.init(3.0), lambda w: 4.0 * w
    >>> update, state = optimizer.update(12.0, state, 3.0, grad_fn=gradient)
    >>> float(update)
    -3.0
    """
    checks.number("sigma", sigma, above=0)
    checks.averaging_factor("decay", decay)
    checks.number("eps", eps, at_least=0)

    def init(params):
        del params
        return CdatState(*(real(0.0) for _ in range(3)), skipped=counters.zero())

    def advance(state, updates, params, **extra_args):
        grad_fn = read_extra(extra_args, "grad_fn")
        slope, curvature = _along(grad_fn, params, updates)
        new, kept = 1 - real(decay), real(decay)
        slope = kept * state.slope + new * jnp.maximum(slope, 0)
        curvature = kept * state.curvature + new * (jnp.abs(curvature) + real(eps))
        rate = real(sigma) * divide(slope, curvature)
        after = CdatState(rate, slope, curvature, state.skipped)
        return after, finite(slope, curvature, rate)

    return estimate("cdat", init, advance)


def _along(
    grad_fn: Callable[[Any], Any], params: Any, direction: Any
) -> tuple[jax.Array, jax.Array]:
    """Return ⟨g, u⟩ and ⟨u, H u⟩ over the leaves that are trained."""
    leaves, structure = jax.tree.flatten(params, is_leaf=is_placeholder)
    ways = jax.tree.leaves(direction, is_leaf=is_placeholder)
    trained = [
        index
        for index, pair in enumerate(zip(leaves, ways, strict=True))
        if all(map(is_trained, pair))
    ]

    def gradient(points):
        filled = list(leaves)
        for index, point in zip(trained, points, strict=True):
            filled[index] = point
        slopes = grad_fn(structure.unflatten(filled))
        slopes = jax.tree.leaves(slopes, is_leaf=is_placeholder)
        return [jnp.asarray(slopes[index]) for index in trained]

    points = [jnp.asarray(leaves[index]) for index in trained]
    ways = [
        jnp.asarray(ways[index]).astype(dtype_of(point))
        for index, point in zip(trained, points, strict=True)
    ]
    slopes, bends = jax.jvp(gradient, (points,), (ways,))
    return inner_product(slopes, ways), inner_product(bends, ways)
