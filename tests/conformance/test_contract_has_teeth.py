"""The contract catches methods that are broken, and for the right reason."""

import pytest
from conformance.broken import BROKEN, SOUND
from conformance.contract import POINTS


@pytest.mark.parametrize("broken", BROKEN, ids=lambda b: f"{b.point}: {b.wrong}")
def test_a_broken_method_is_caught(broken):
    with pytest.raises(Exception, match=broken.says):
        POINTS[broken.point](broken.case)


@pytest.mark.parametrize("point", POINTS)
def test_the_same_method_unbroken_is_not_caught(point):
    POINTS[point](SOUND)


def test_every_point_catches_something():
    assert {broken.point for broken in BROKEN} == set(POINTS)
