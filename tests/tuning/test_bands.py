"""The band of good rates, against cases that were worked out by hand."""

import numpy as np
import pytest

from adaptax.tuning.analysis.bands import band

INF = float("inf")


def test_band_ends_between_the_rates_where_the_loss_is_5_percent_above_the_best():
    found = band([1e-3, 1e-2, 1e-1, 1.0], [2.0, 1.0, 1.02, 1.05 + 0.03])
    assert found is not None
    assert found.best == 1e-2
    assert np.log10(found.low) == pytest.approx(-2 - 0.05)
    assert np.log10(found.high) == pytest.approx(-1 + 0.5)
    assert found.decades == pytest.approx(1.55)
    assert not found.open


def test_band_is_open_at_an_end_of_the_grid_and_stops_before_an_infinite_loss():
    found = band([1e-2, 1e-1, 1.0], [1.0, 1.01, INF])
    assert found is not None
    assert (found.low, found.high, found.open) == (1e-2, 1e-1, True)
    closed = band([1e-3, 1e-2, 1e-1], [INF, 1.0, INF])
    assert closed is not None
    assert (closed.decades, closed.open) == (0, False)


def test_band_of_a_negative_best_reaches_upwards():
    found = band([0.1, 1.0, 10.0], [0.0, -1.0, 0.0])
    assert found is not None
    assert found.decades == pytest.approx(0.1)


def test_there_is_no_band_where_every_rate_diverged():
    assert band([0.1, 1.0], [INF, INF]) is None
