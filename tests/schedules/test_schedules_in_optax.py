"""A schedule goes wherever Optax takes one."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adaptax import schedules

SCHEDULE = schedules.cosine(0.1, 8, warmup_steps=2, end=0.01)
RATES = np.asarray(SCHEDULE(np.arange(12)))


@pytest.fixture(autouse=True)
def _as_optax_promotes():
    """Optax relies on implicit promotion."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def updates_of(optimizer, steps=12):
    params = {"w": jnp.ones(3)}
    state = optimizer.init(params)

    @jax.jit
    def step(state):
        return optimizer.update({"w": jnp.full(3, 2.0)}, state, params)

    seen = []
    for _ in range(steps):
        updates, state = step(state)
        seen.append(np.asarray(updates["w"]))
    return np.stack(seen), state


SEATS = {
    "a learning rate of Optax": lambda: optax.sgd(SCHEDULE),
    "scale_by_schedule": lambda: optax.chain(
        optax.scale_by_schedule(SCHEDULE), optax.scale(-1.0)
    ),
    "a transformation": lambda: optax.chain(SCHEDULE, optax.scale(-1.0)),
    "inject_hyperparams": lambda: optax.inject_hyperparams(optax.sgd)(
        learning_rate=SCHEDULE
    ),
}


@pytest.mark.parametrize("name", SEATS)
def test_its_rates_are_applied_in_every_seat(name):
    updates, _ = updates_of(SEATS[name]())
    np.testing.assert_allclose(updates, np.tile(-2 * RATES[:, None], 3), 1e-6)


def test_adam_of_optax_takes_it():
    unit, _ = updates_of(optax.adam(1.0))
    updates, _ = updates_of(optax.adam(SCHEDULE))
    np.testing.assert_allclose(updates, unit * RATES[:, None], 1e-5)


def test_inject_hyperparams_shows_the_rate():
    _, state = updates_of(SEATS["inject_hyperparams"](), steps=5)
    np.testing.assert_allclose(state.hyperparams["learning_rate"], RATES[4], 1e-6)


def test_inject_hyperparams_can_make_the_schedule_itself():
    """Its numbers are then part of the state."""

    def optimizer(peak, total_steps):
        return optax.sgd(schedules.cosine(peak, total_steps, warmup_steps=2, end=0.01))

    injected = optax.inject_hyperparams(optimizer)(peak=0.1, total_steps=8)
    updates, _ = updates_of(injected)
    np.testing.assert_allclose(updates, np.tile(-2 * RATES[:, None], 3), 1e-5)
