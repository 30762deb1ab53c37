"""Every entry of the catalogue, in each variant, keeps every point of the contract."""

import pytest
from conformance.cases import CASES
from conformance.contract import POINTS


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_catalogue_keeps_the_contract(case, point):
    if point not in case.contract.breaks:
        POINTS[point](case)
        return
    with pytest.raises(AssertionError):  # what is declared broken must be so
        POINTS[point](case)
