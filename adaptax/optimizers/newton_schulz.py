"""Newton-Schulz: bring the singular values of a matrix close to 1 by products alone.

    X ← X / (‖X‖ + ε),   then each time   X ← a X + (b S + c S²) X   with S = X Xᴴ

With a = 3.4445, b = −4.7750 and c = 2.0315, five iterations bring the singular values,
if above ‖X‖/300, to between 0.68 and 1.21.

Source: Jordan, Jin, Boza, You, Cesista, Newhouse & Bernstein (2024), "Muon: An
optimizer for hidden layers in neural networks", for the coefficients.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from adaptax._core.checks import Scalar
from adaptax._core.coordinates import divide, root
from adaptax._core.leaves import abs_sq, is_complex, kept_dtype
from adaptax._core.meshes import by_compiler

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def matrix_shape(array: jax.Array) -> tuple[int, int]:
    """Return the numbers of rows and columns; the last axis is the columns."""
    return math.prod(array.shape[:-1]), array.shape[-1]


def orthogonalized(array: jax.Array, eps: Scalar, steps: int, dtype: Any) -> jax.Array:
    """Bring the singular values of a matrix close to 1.

    Args:
        array: A real or complex matrix. If it has more axes, all but the last are its
            rows.
        eps: ε >= 0. Where the divisor is 0, so is the result.
        steps: The number of iterations.
        dtype: The dtype of the iteration, by default the matrix's own; for a complex
            matrix, of its real and imaginary parts.
    """

    def iterate(array, eps):
        matrix = array.reshape(matrix_shape(array))
        return _iterated(matrix, eps, steps, dtype).reshape(array.shape)

    return by_compiler(iterate, array, eps)


def _iterated(matrix: jax.Array, eps: Scalar, steps: int, dtype: Any) -> jax.Array:
    a, b, c = _COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = _transposed(matrix) if tall else matrix
    norm = root(jnp.sum(abs_sq(x)))
    x = divide(x, norm + jnp.asarray(eps).astype(norm.dtype))
    x = x.astype(kept_dtype(dtype or x.dtype, x.dtype))
    for _ in range(steps):
        square = x @ _transposed(x)
        x = a * x + (b * square + c * square @ square) @ x
    return _transposed(x) if tall else x


def _transposed(matrix: jax.Array) -> jax.Array:
    """Return the transpose, or the conjugate transpose of a complex matrix."""
    return matrix.T.conj() if is_complex(matrix) else matrix.T
