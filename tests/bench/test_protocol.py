"""The benchmark's statistics, against cases that were worked out by hand."""

import numpy as np
import pytest

from adaptax.bench.tuning.protocol import (
    best_losses,
    choose_target,
    lower_median,
    median_best,
    profile,
    ratios_to_fastest,
    score,
    steps_to_target,
)

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("values", "median"),
    [
        ([3, 1, 2], 2),
        ([4, 1, 3, 2], 2),
        ([1, INF, INF, 2, 3], 3),
        ([1, INF, NAN, INF, 3], INF),
        ([7], 7),
    ],
)
def test_lower_median_is_a_value_that_occurs_and_infinities_come_last(values, median):
    assert lower_median(np.array(values, float)) == median


def test_best_of_a_curve_disregards_what_is_not_a_number():
    curves = np.array([[3, 1, 2], [NAN, 5, NAN], [NAN, NAN, NAN]])
    np.testing.assert_array_equal(best_losses(curves), [1, 5, INF])
    assert median_best(curves) == 5


def test_target_is_the_least_median_not_the_least_loss():
    lucky = np.array([[0.0], [9.0], [9.0]])
    steady = np.array([[2.0], [3.0], [4.0]])
    chosen, target = choose_target({("lucky", 1.0): lucky, ("steady", 0.1): steady})
    assert (chosen, target) == (("steady", 0.1), 3.0)


def test_chosen_configuration_reaches_its_own_target():
    curves = np.random.default_rng(0).normal(size=(5, 30))
    _, target = choose_target({("one", 1.0): curves})
    assert steps_to_target(curves, 10, target) <= 300


def test_time_to_target_is_the_median_first_look_at_or_below_it():
    curves = np.array([[5, 2, 1], [5, 4, 2], [2, 9, 9], [9, 9, 9], [NAN, NAN, 2.0]])
    assert steps_to_target(curves, 10, 2.0) == 30  # 10, 20, 30, 30, infinite
    assert steps_to_target(curves, 10, 1.0) == INF
    assert steps_to_target(curves[:2], 10, 2.0) == 20


def test_ratios_are_to_the_fastest_and_end_beyond_four():
    ratios = ratios_to_fastest(
        {"a": [10, 20, INF, INF], "b": [40, 10, 5, INF], "c": [41, INF, 10, INF]}
    )
    np.testing.assert_array_equal(ratios["a"], [1, 2, INF, INF])
    np.testing.assert_array_equal(ratios["b"], [4, 1, 1, INF])
    np.testing.assert_array_equal(ratios["c"], [INF, INF, 2, INF])


def test_profile_counts_the_problems_within_tau():
    ratios = np.array([1, 2, 4, INF])
    counted = profile(ratios, np.array([1, 1.9, 2, 3.9, 4]))
    np.testing.assert_array_equal(counted, [0.25, 0.25, 0.5, 0.5, 0.75])


def test_score_is_one_for_the_always_fastest_and_zero_for_what_never_arrives():
    assert score(np.ones(3)) == 1
    assert score(np.full(3, INF)) == 0
    assert score(np.array([1, 2.5, 4, INF])) == pytest.approx((1 + 0.5) / 4)


def test_score_is_the_integral_of_the_profile():
    ratios = np.array([1, 1.3, 2.7, 3.1, INF])
    taus = np.linspace(1, 4, 30_001)
    integral = profile(ratios, taus)[:-1].mean()  # the width is divided out
    assert score(ratios) == pytest.approx(integral, abs=1e-4)
