"""Medians and bootstrap intervals, against cases that were worked out by hand."""

import numpy as np
import pytest

from adaptax.bench.shared import intervals

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("values", "median"),
    [
        ([3, 1, 2], 2),
        ([4, 1, 3, 2], 2.5),
        ([1, INF, INF, 2, 3], 3),
        ([1, 2, INF, INF], INF),
        ([1, INF, NAN, INF, 3], INF),
        ([7], 7),
    ],
)
def test_a_median_has_infinities_and_what_is_not_a_number_last(values, median):
    assert intervals.median(np.array(values, float)) == median


def test_a_lower_median_is_a_value_that_occurs():
    assert intervals.lower_median(np.array([4, 1, 3, 2.0])) == 2
    assert intervals.lower_median(np.array([1, 2, INF, INF])) == 2
    assert intervals.lower_median(np.array([1, INF, INF, NAN])) == INF
    assert intervals.interval(np.array([1, INF]), intervals.lower_median).value == 1


def test_an_interval_holds_the_median_and_narrows_with_more_seeds():
    generator = np.random.default_rng(1)
    few = intervals.interval(generator.normal(1, 0.1, 5))
    many = intervals.interval(generator.normal(1, 0.1, 500))
    for found in (few, many):
        assert found.low <= found.value <= found.high
    assert many.high - many.low < few.high - few.low
    assert intervals.interval(np.array([1, 2, INF])).high == INF


def test_an_interval_of_problems_is_wider_than_that_of_their_seeds():
    problems = [np.full(5, value) for value in (0.8, 1.0, 1.3)]
    found = intervals.interval_of_problems(problems)
    assert found.value == 1
    assert (found.low, found.high) == (0.8, 1.3)
