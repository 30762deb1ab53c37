"""The rate, the distance and the sums can be read, and a constant rate can be set."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptax

PARAMS = {"w": jnp.asarray([1.0, -2.0, 0.5]), "b": jnp.asarray(0.3)}
FACTORIES = {
    "prodigy": adaptax.prodigy,
    "adamg": adaptax.adamg,
    "dadapt_adam": adaptax.dadapt_adam,
    "dadapt_sgd": adaptax.dadapt_sgd,
    "dadapt_lion": adaptax.dadapt_lion,
    "momo": adaptax.momo,
    "momo_adam": adaptax.momo_adam,
}


def step(optimizer, state=None):
    state = optimizer.init(PARAMS) if state is None else state
    return optimizer.update(PARAMS, state, PARAMS, value=jnp.asarray(2.0))


@pytest.mark.parametrize("name", FACTORIES)
def test_a_rate_that_was_set_is_the_one_that_scales_the_next_step(name):
    halved, whole = FACTORIES[name](0.5), FACTORIES[name](0.25)
    state = adaptax.set_learning_rate(halved.init(PARAMS), 0.25)
    got, state = step(halved, state)
    expected, other = step(whole)
    jax.tree.map(np.testing.assert_array_equal, got, expected)
    assert adaptax.learning_rate(state) == adaptax.learning_rate(other) > 0


@pytest.mark.parametrize("name", FACTORIES)
def test_a_scheduled_rate_cannot_be_set(name):
    state = FACTORIES[name](adaptax.cosine(1.0, 10)).init(PARAMS)
    with pytest.raises(ValueError, match="schedule"):
        adaptax.set_learning_rate(state, 0.5)


def test_the_distance_and_the_sums_are_in_the_telemetry():
    for name in ("prodigy", "dadapt_adam", "dadapt_sgd", "dadapt_lion"):
        shown = adaptax.telemetry(step(FACTORIES[name]())[1])
        known = {"distance", "numerator", "denominator", "skipped"}
        assert {f"{name}/{field}" for field in known} <= set(shown)


def test_groups_of_a_partition_have_distances_of_their_own():
    optimizer = optax.partition(
        {
            "slow": adaptax.prodigy(d0=1e-3, bias_correction=False),
            "fast": adaptax.prodigy(d0=1e-2, bias_correction=False),
        },
        {"w": "slow", "b": "fast"},
    )
    _, state = step(optimizer)
    rates = adaptax.learning_rate(state)
    assert rates["slow"] == pytest.approx(1e-3)
    assert rates["fast"] == pytest.approx(1e-2)
