"""TRAC: a learned scale of any optimizer's path, which can return it to the start.

    h = ⟨g_t, Δ_t⟩,   for each of the factors β:
    v ← β² v + h²,    σ ← β σ − h
    s = s₀ erfi(σ / √(2v)) / erfi(1/√2)
    S_{t+1} = max(0, Σ s),   w_{t+1} = w_0 + S_{t+1} Δ_{t+1},   Δ_{t+1} = Δ_t + u_t

u are the updates of the inner optimizer. While its path Δ leads downhill, S grows
exponentially. If the task changes and the path leads uphill, S falls, and the
parameters return towards w_0, where a network can learn again.

Source: Muppidi, Zhang & Yang (2024), "Fast TRAC: A Parameter-Free Optimizer for
Lifelong Reinforcement Learning", NeurIPS (arXiv 2405.16642), Alg. 1 and 2. The authors'
code computes Δ as (w − w_0) / S; here Δ is stored, as in the paper. erfi follows from
Dawson's integral D, erfi(z) = 2/√π exp(z²) D(z), by the series of Rybicki (1989),
"Dawson's Integral and the Sampling Theorem", Computers in Physics 3.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adaptax._core import checks
from adaptax._core.checks import Scalar
from adaptax._core.coordinates import divide, root
from adaptax._core.leaves import inner_product
from adaptax._core.methods import Method
from adaptax._core.scalars import real
from adaptax._core.scaled_paths import scale_path
from adaptax._core.words import translating
from adaptax.wrappers.mechanic import as_factors


class TracTuner(NamedTuple):
    """The tuner's state: `learning_rate` is S, initially 0.

    `sums` is σ and `squares` v, one for each β.
    """

    learning_rate: jax.Array
    sums: jax.Array
    squares: jax.Array

    def has_unit(self) -> bool:
        """Return False: it scales the inner optimizer's rate."""
        return False


@translating
def trac(
    inner: optax.GradientTransformation,
    *,
    initial_scale: Scalar = 1e-8,
    betas: Sequence[Scalar] = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999),
) -> optax.GradientTransformationExtraArgs:
    """Scale an optimizer's path by how well it has led downhill.

    The first step moves nothing, since its path is empty. A step with a value that is
    not finite is counted but not taken, by the inner optimizer either.

    Args:
        inner: The optimizer, at its usual rate.
        initial_scale: s₀ > 0: the smaller, the longer it takes to leave w_0.
        betas: The factors β in [0, 1): the smaller, the faster its part forgets.

    Raises:
        ValueError: At `update`, if `params` is missing.
    """
    checks.number("initial_scale", initial_scale, above=0)
    factors = as_factors(betas)

    def tuner():
        return TracTuner(real(0.0), *(jnp.zeros_like(factors) for _ in range(2)))

    def tune(state, step, gradients, path, params):
        del step, params
        h = inner_product(gradients, path)
        squares = factors**2 * state.squares + h**2
        sums = factors * state.sums - h
        scales = real(initial_scale) * erfi(divide(sums, root(2 * squares)))
        scale = jnp.maximum(jnp.sum(scales / _AT_ONE_DEVIATION), 0)
        return TracTuner(scale, sums, squares)

    return scale_path(inner, tuner, tune, "trac")


_AT_ONE_DEVIATION = 0.95343826925  # erfi(1/√2)
_SPACING = 1 / 3  # of the samples: an error of 2 exp(−(π / 2h)²) = 5e-10
_LARGEST = 9.0  # erfi(9) = 9.5e33
_ODD = np.arange(1, 43, 2, dtype=np.float32)  # enough samples for z = 9


def erfi(z: jax.Array) -> jax.Array:
    """Return the imaginary error function, −i erf(iz), of float32 numbers.

        erfi(z) = 4/π Σ_{n odd} exp(−n²h²) sinh(2 n h z) / n

    Arguments are clipped to [−9, 9], so that it is finite.
    """
    size = jnp.minimum(jnp.abs(z), _LARGEST)[..., None]
    n = jnp.asarray(_ODD * _SPACING).reshape((1,) * z.ndim + (-1,))
    terms = jnp.exp(2 * n * size - n**2) * -jnp.expm1(-4 * n * size) / (n / _SPACING)
    return jnp.sign(z) * (2 / math.pi) * jnp.sum(terms, axis=-1)


METHOD = Method(
    {"learning_rate": 1.0, "initial_scale": 0.05, "betas": (0.95, 0.999)},
    source="Muppidi, Zhang & Yang (2024)",
    needs=frozenset({"params"}),
    differs="Optax has no TRAC.",
    rate="path",
)
