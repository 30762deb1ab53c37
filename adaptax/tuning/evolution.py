"""Evolution: the strategies of evosax, for points between two bounds.

    ask:        x_1 … x_n ~ a distribution, initially N(m, 1) in each coordinate
    evaluate:   the loss at x_i, mirrored at the bounds until it lies between them
    tell:       x_i, and the rank of its loss, 0 … n − 1

The strategies use only the order of the losses. Ranks never tie, and losses that are
not finite are last, so no loss can disturb a strategy. It receives its own points, not
their mirror images.

Source: Hansen & Ostermeier (2001), "Completely Derandomized Self-Adaptation in
Evolution Strategies", Evolutionary Computation 9(2), for `CMA_ES`; Lange (2022),
"evosax: JAX-based Evolution Strategies" (arXiv 2212.04180).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import metadata
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

Algorithm = Literal[
    "CMA_ES", "Sep_CMA_ES", "SNES", "xNES", "MA_ES", "CR_FM_NES", "SimpleES"
]
ALGORITHMS = get_args(Algorithm)
"""The strategies of evosax that work for a few dimensions."""


class Evolution:
    """A strategy and its state, used from the host: `ask`, then `tell`."""

    def __init__(
        self, algorithm: str, population: int, mean: np.ndarray, key: jax.Array
    ):
        """Initialize the strategy.

        Args:
            algorithm: One of `ALGORITHMS`.
            population: The number of candidates in a generation.
            mean: The initial mean, of shape (dimensions,).
            key: The random key.

        Raises:
            ImportError: If evosax is missing.
        """
        self.generation, self._key = 0, key
        self._strategy = _make_strategy(algorithm, population, len(mean))
        with _evosax():
            self._params = self._strategy.params()
            start = jnp.asarray(mean, jnp.float32)
            self._state = self._strategy.init(self._key_of(0), start, self._params)

    @property
    def mean(self) -> np.ndarray:
        """The mean of the distribution."""
        return np.asarray(self._state.mean)

    def ask(self) -> np.ndarray:
        """Draw the candidates of the next generation, (population, dimensions).

        Raises:
            FloatingPointError: If one is not finite.
        """
        with _evosax():
            self._asked = self._strategy.ask(self._key_of(1), self._state, self._params)
        points = np.asarray(self._asked[0])
        if not np.isfinite(points).all():
            raise FloatingPointError(
                "the evolution strategy diverged. Take another algorithm."
            )
        return points

    def tell(self, losses: np.ndarray) -> None:
        """Update the distribution with the losses of the last candidates."""
        points, state = self._asked
        with _evosax():
            self._state, _ = self._strategy.tell(
                self._key_of(2), points, jnp.asarray(ranks(losses)), state, self._params
            )
        self.generation += 1

    def _key_of(self, use: int) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(self._key, use), self.generation)


def version() -> str:
    """Return the version of evosax.

    Raises:
        ImportError: If it is missing.
    """
    with _evosax():
        return metadata.version("evosax")


def ranks(losses: np.ndarray) -> np.ndarray:
    """Rank losses from 0, as float32: ties by index, losses that are not finite last.

    >>> ranks(np.array([1.0, np.inf, 0.5, np.nan, 1.0])).tolist()
    [1.0, 3.0, 0.0, 4.0, 2.0]
    """
    order = np.argsort(np.where(np.isfinite(losses), losses, np.inf), kind="stable")
    found = np.empty(len(losses), np.float32)
    found[order] = np.arange(len(losses))
    return found


def mirrored(points: np.ndarray, low: float, high: float) -> np.ndarray:
    """Fold the real line into [low, high] by reflection at both ends.

    >>> mirrored(np.array([-0.25, 0.5, 1.25, 2.25]), 0.0, 1.0).tolist()
    [0.25, 0.5, 0.75, 0.25]
    """
    width = high - low
    return low + width - np.abs((points - low) % (2 * width) - width)


class _Strategy(NamedTuple):
    """The functions of a strategy, compiled once each."""

    params: Callable[[], Any]
    init: Callable[..., Any]
    ask: Callable[..., Any]
    tell: Callable[..., Any]


@lru_cache(maxsize=8)
def _make_strategy(algorithm: str, population: int, dimensions: int) -> _Strategy:
    """Return a strategy, cached, since each new one is compiled."""
    with _evosax() as algorithms:
        start = jnp.zeros(dimensions, jnp.float32)
        strategy = getattr(algorithms, algorithm)(population, start)
    # They are tiny and seldom run, so optimizing them is not worth the time.
    fast = {"xla_backend_optimization_level": 0}
    options = fast if jax.default_backend() == "cpu" else {}
    functions = (
        (lambda: strategy.default_params),
        strategy.init,
        strategy.ask,
        strategy.tell,
    )
    return _Strategy(*(jax.jit(one, compiler_options=options) for one in functions))


@contextmanager
def _evosax() -> Iterator[Any]:
    """Yield the algorithms, which promote types and have NaN in their first states."""
    try:
        from evosax import algorithms
    except ImportError as error:
        raise ImportError(
            'an evolution strategy needs evosax: pip install "adaptax[tools]".'
        ) from error
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        jax.debug_nans(False),
    ):
        yield algorithms
