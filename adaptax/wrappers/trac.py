"""TRAC: a scale for any optimizer that keeps it near where it started, if need be.

    h = ⟨g_t, Δ_t⟩,   and for each of the factors β:
    v ← β² v + h²,    σ ← β σ − h
    s = s₀ erfi(σ / √(2v)) / erfi(1/√2)
    S_{t+1} = max(0, Σ s),   w_{t+1} = w_0 + S_{t+1} Δ_{t+1},   Δ_{t+1} = Δ_t + u_t

u are the updates of the inner optimizer. As long as its path Δ leads downhill, S grows
exponentially. Where the task changes and the path turns out wrong, S falls, and the
parameters return towards w_0, from where a network can learn again.

Source: Muppidi, Zhang & Yang (2024), "Fast TRAC: A Parameter-Free Optimizer for
Lifelong Reinforcement Learning", NeurIPS (arXiv 2405.16642), Alg. 1 and 2. The authors'
code divides w − w_0 by S for Δ; here Δ is kept, as in the paper. erfi follows from
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
from adaptax._core.scalars import real
from adaptax._core.scaled_paths import scale_path
from adaptax._core.words import translating
from adaptax.wrappers.mechanic import as_factors


class TracTuner(NamedTuple):
    """What TRAC knows: `learning_rate` is S, 0 before the first step.

    `sums` is σ and `squares` is v, one for each β.
    """

    learning_rate: jax.Array
    sums: jax.Array
    squares: jax.Array

    def has_unit(self) -> bool:
        """Return False: it scales what the inner optimizer's rate has made."""
        return False


@translating
def trac(
    inner: optax.GradientTransformation,
    *,
    initial_scale: Scalar = 1e-8,
    betas: Sequence[Scalar] = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999),
) -> optax.GradientTransformationExtraArgs:
    """Scale an optimizer's path by how well it has led downhill.

    The first step moves nothing: it takes two to compare. A step of which a number is
    not finite is not taken, by the inner optimizer either, and is counted.

    Args:
        inner: The optimizer, at its usual rate.
        initial_scale: s₀ > 0: the smaller, the longer it takes to leave w_0.
        betas: The β in [0, 1), how fast each of the tuners forgets.

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
_ODD = np.arange(1, 43, 2, dtype=np.float32)  # up to where a sample counts at 9


def erfi(z: jax.Array) -> jax.Array:
    """Return the imaginary error function, −i erf(iz), of float32 numbers.

        erfi(z) = 4/π Σ_{n odd} exp(−n²h²) sinh(2 n h z) / n

    Above 9 and below −9 it stays as it is there, so that it is finite.
    """
    size = jnp.minimum(jnp.abs(z), _LARGEST)[..., None]
    n = jnp.asarray(_ODD * _SPACING).reshape((1,) * z.ndim + (-1,))
    terms = jnp.exp(2 * n * size - n**2) * -jnp.expm1(-4 * n * size) / (n / _SPACING)
    return jnp.sign(z) * (2 / math.pi) * jnp.sum(terms, axis=-1)
