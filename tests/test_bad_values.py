"""A loss that is not finite, over everything in the catalogue that reads one.

Numbers 54 and 55 of the list in `test_bad_inputs`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conformance.cases import CASES

import adaptax

PARAMS = {"a": jnp.ones((2, 3)), "b": jnp.ones(())}
GOOD = 8  # steps: past the warm-up of `phases`


def step(optimizer, state, value):
    return optimizer.update(
        PARAMS,
        state,
        PARAMS,
        value=value,
        grad=PARAMS,
        value_fn=lambda params: jnp.asarray(value),
        grad_fn=lambda params, *rest: params,
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(
    "case", [case for case in CASES if "value" in case.needs], ids=str
)
def test_it_is_counted_and_not_stored_and_the_rate_does_not_rise(case, bad):
    optimizer = case.optimizer()
    state = optimizer.init(PARAMS)
    for index in range(GOOD):
        _, state = step(optimizer, state, 1 - 0.05 * index)
    before, rate = adaptax.telemetry(state), adaptax.learning_rate(state)
    updates, state = step(optimizer, state, bad)
    after = adaptax.telemetry(state)
    counted = [path for path in after if path.split("/")[-1] in ("skipped", "rejected")]
    more = [int(after[path]) - int(before[path]) for path in counted]
    assert max(more) == 1  # a controller inside another has a counter too
    assert adaptax.learning_rate(state) <= rate
    for leaf in jax.tree.leaves(updates):
        assert np.isfinite(leaf).all()
    for path, number in after.items():
        assert not np.isnan(number), path
        assert np.isfinite(number) or not np.isfinite(before[path]), path
