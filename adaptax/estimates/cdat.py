"""CDAT: the rate at which a step is at the edge of stability, or near it.

    n = max(⟨g_t, u_t⟩, 0),   d = |⟨u_t, H_t u_t⟩| + ε
    n̄ ← β n̄ + (1 − β) n,      d̄ ← β d̄ + (1 − β) d
    η_t = σ n̄ / d̄

u is the direction, H the Hessian: H u is the derivative of the gradient along u, which
costs about one more gradient. If the loss along the direction is a parabola, σ = 1
leads to its minimum, and σ = 2 to the opposite point of equal loss. There the curvature
regulates itself: on full batches 2 is best, on small ones a little less.

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
from adaptax._core.extra_args import read_extra
from adaptax._core.leaves import dtype_of, inner_product, is_placeholder, is_trained
from adaptax._core.methods import Method
from adaptax._core.scalars import real
from adaptax._core.words import translating


class CdatState(NamedTuple):
    """The state of `cdat`, float32 scalars.

    `learning_rate` is η, the rate applied, initially 0. `slope` is n̄ and `curvature` d̄;
    `skipped` counts the updates that were not finite.
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
    """Use the slope over the curvature, along the direction, as the rate.

    Put it directly after a direction, and pass `update` the gradient as a function of
    the parameters, on the same batch: `tx.update(grads, state, params, grad_fn=...)`.
    Under `optax.partition` and `optax.masked` that function receives the parameters
    with the other leaves masked.

    Args:
        sigma: σ > 0: 2 for full batches, slightly less for small ones.
        decay: β in [0, 1), of both averages. Both start at 0, and the bias cancels.
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
        b, w = real(decay), 1 - real(decay)
        slope = b * state.slope + w * jnp.maximum(slope, 0)
        curvature = b * state.curvature + w * (jnp.abs(curvature) + real(eps))
        rate = real(sigma) * divide(slope, curvature)
        after = CdatState(rate, slope, curvature, state.skipped)
        return after, finite(slope, curvature, rate)

    return estimate("cdat", init, advance)


def _along(
    grad_fn: Callable[[Any], Any], params: Any, direction: Any
) -> tuple[jax.Array, jax.Array]:
    """Return ⟨g, u⟩ and ⟨u, H u⟩ over the trained leaves."""
    leaves, structure = jax.tree.flatten(params, is_leaf=is_placeholder)
    tangents = jax.tree.leaves(direction, is_leaf=is_placeholder)
    trained = [
        index
        for index, pair in enumerate(zip(leaves, tangents, strict=True))
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
    tangents = [
        jnp.asarray(tangents[index]).astype(dtype_of(point))
        for index, point in zip(trained, points, strict=True)
    ]
    slopes, products = jax.jvp(gradient, (points,), (tangents,))
    return inner_product(slopes, tangents), inner_product(products, tangents)


METHOD = Method(
    {"sigma": 1.5, "decay": 0.8, "eps": 50.0},
    source="Roulet, Agarwala, Grill, Swirszcz, Blondel & Pedregosa (2024)",
    needs=frozenset({"params", "grad_fn"}),
    differs="Optax has no CDAT.",
)
