"""Student's t against the printed tables."""

import numpy as np
import pytest

from adaptax.controllers.student_t import upper_quantile

TABLE = {
    (0.05, 4): 2.132,
    (0.025, 4): 2.776,
    (0.025, 5): 2.571,
    (0.005, 5): 4.032,
    (0.1, 10): 1.372,
    (0.025, 10): 2.228,
    (0.005, 10): 3.169,
    (0.05, 30): 1.697,
    (0.025, 120): 1.980,
}


@pytest.mark.parametrize(("tail", "freedom"), TABLE)
def test_quantiles_are_those_of_the_table(tail, freedom):
    expected = TABLE[tail, freedom]
    assert float(upper_quantile(tail, freedom)) == pytest.approx(expected, rel=5e-3)


def test_half_of_all_lies_above_zero():
    np.testing.assert_allclose(upper_quantile(0.5, 5), 0, atol=1e-6)
