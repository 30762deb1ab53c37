"""Evolution: the strategies find a minimum, between bounds, whatever the losses are."""

import jax
import numpy as np
import pytest

from adaptax.tuning.evolution import ALGORITHMS, Evolution, mirrored, ranks


def evolve(strategy, generations, loss):
    for _ in range(generations):
        strategy.tell(loss(strategy.ask()))
    return strategy.mean


def valley(points):
    return (np.array([1.0, 2.0, 4.0, 8.0]) * (points - 1) ** 2).sum(axis=1)


def begun(algorithm, population=12):
    return Evolution(algorithm, population, np.full(4, -1.0), jax.random.key(0))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_each_strategy_finds_the_minimum_of_a_narrow_valley(algorithm):
    strategy = begun(algorithm)
    first = strategy.ask()
    np.testing.assert_allclose(first.mean(axis=0), -1.0, atol=1.0)
    assert 0.5 < first.std() < 1.5
    start, end = valley(strategy.mean[None]), valley(evolve(strategy, 40, valley)[None])
    assert end < 0.02 * start


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_losses_that_are_not_finite_never_reach_a_strategy(algorithm):
    def broken(points):
        losses = valley(points)
        losses[::3], losses[1], losses[4] = np.nan, np.inf, -np.inf
        return losses

    strategy = begun(algorithm)
    assert np.isfinite(evolve(strategy, 5, broken)).all()
    assert np.isfinite(evolve(strategy, 5, lambda points: points[:, 0] * np.nan)).all()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_strategy_that_is_told_the_same_again_gives_the_same_bits(algorithm):
    whole, other = begun(algorithm), begun(algorithm)
    np.testing.assert_array_equal(evolve(whole, 3, valley), evolve(other, 3, valley))
    np.testing.assert_array_equal(other.ask(), whole.ask())


def test_candidates_depend_on_the_key_and_the_generation():
    strategy = begun("CMA_ES")
    other = Evolution("CMA_ES", 12, np.full(4, -1.0), jax.random.key(1))
    first = strategy.ask()
    assert (first != other.ask()).all()
    strategy.tell(np.zeros(12))
    assert (first != strategy.ask()).all()


def test_ties_are_ranked_by_index_and_what_is_not_finite_last():
    losses = np.array([2.0, np.nan, 1.0, 2.0, np.inf, -np.inf])
    assert ranks(losses).tolist() == [1, 3, 0, 2, 4, 5]


def test_mirrors_are_continuous_and_leave_what_is_inside():
    points = np.linspace(-20, 20, 4001)
    images = mirrored(points, -1.0, 2.0)
    assert images.min() == pytest.approx(-1.0)
    assert images.max() == pytest.approx(2.0)
    inside = (points >= -1) & (points <= 2)
    np.testing.assert_allclose(images[inside], points[inside], atol=1e-12)
    np.testing.assert_allclose(abs(np.diff(images)), 0.01, atol=0.01)
    assert mirrored(np.array([2.5, -2.0, 9.0]), -1.0, 2.0).tolist() == [1.5, 0.0, 1.0]


def test_a_strategy_that_diverged_says_so():
    strategy = begun("CMA_ES")
    strategy._state = strategy._state.replace(mean=strategy._state.mean * np.nan)
    with pytest.raises(FloatingPointError, match="another algorithm"):
        strategy.ask()
