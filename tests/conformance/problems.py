"""Toy problems with known minima, as one table.

Every loss is 0 at its minimum, so a goal is a fraction of the first loss.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adaptax._core.leaves import abs_sq

SHAPES = {"matrix": (8, 2), "scalar": ()}
SIZE = 17
MATRIX, SCALAR = slice(0, 16), slice(16, 17)
"""Where the leaves of a tree are in its vector."""


class Problem(NamedTuple):
    """Where to start, the loss to minimize, and whether variants must do so as well."""

    start: Any
    loss: Callable[[Any], jax.Array]
    with_variants: bool = True


def tree_of(vector: np.ndarray) -> dict[str, np.ndarray]:
    """Make a tree of the quadratic problems of its 17 numbers."""
    return {"matrix": vector[:-1].reshape(8, 2), "scalar": vector[-1]}


def vector_of(tree: Any) -> np.ndarray:
    """Put the leaves of a tree one after another, keeping a leading axis of steps."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    steps = leaves[-1].shape
    return np.concatenate([leaf.reshape(*steps, -1) for leaf in leaves], axis=-1)


def bowl(curvatures: np.ndarray) -> Problem:
    """½ Σ c x², from x = 1 everywhere."""
    tree = tree_of(curvatures.astype(np.float32))

    def loss(params):
        def half_square(c, x):
            square = abs_sq(x)
            return jnp.sum(jnp.asarray(c).astype(square.dtype) * square) / 2

        return sum(jax.tree.leaves(jax.tree.map(half_square, tree, params)))

    return Problem(jax.tree.map(np.ones_like, tree), loss)


def rosenbrock() -> Problem:
    """(1 − x)² + 100 (y − x²)², from the usual start."""

    def loss(params):
        x, y = params
        return (1 - x) ** 2 + 100 * (y - x * x) ** 2

    return Problem((np.float32(-1.2), np.float32(1.0)), loss)


def complex_parabola() -> Problem:
    """Σ |z − a|² of three complex numbers, two of them with a part already right."""
    goal = np.complex64([1 + 1j, -1 - 1j, 1 + 1j])

    def loss(params):
        return jnp.sum(abs_sq(params - goal))

    return Problem(np.complex64([-1, 10, 1]), loss, with_variants=False)


def complex_rosenbrock() -> Problem:
    """|a − z₀|² + 100 |z₁ − z₀²|² with a = 1 + i, from 0."""

    def loss(params):
        first, second = params[0], params[1]
        return abs_sq((1 + 1j) - first) + 100 * abs_sq(second - first * first)

    return Problem(np.complex64([0, 0]), loss, with_variants=False)


def regression() -> Problem:
    """Logistic regression on labels that a plane separates: the infimum is 0."""
    random = np.random.default_rng(0)
    inputs = random.normal(size=(64, 4)).astype(np.float32)
    sides = np.sign(inputs @ np.float32([1, -2, 3, -1]) + np.float32(0.5))

    def loss(params):
        margins = sides * (inputs @ params["weights"] + params["bias"][None])
        return jnp.mean(jax.nn.softplus(-margins))

    start = {"weights": np.zeros(4, np.float32), "bias": np.zeros((), np.float32)}
    return Problem(start, loss)


PROBLEMS = {
    "quadratic": bowl(np.linspace(0.1, 1, SIZE)),
    "ill_conditioned": bowl(np.geomspace(1e-3, 1, SIZE)),
    "rosenbrock": rosenbrock(),
    "complex_parabola": complex_parabola(),
    "complex_rosenbrock": complex_rosenbrock(),
    "regression": regression(),
}
