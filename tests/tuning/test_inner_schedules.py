"""Schedules inside a trial: refused where they change what a tool varies."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptax
from adaptax.tuning.running.acting import require_acting
from tests.tuning.lines import line_trial
from tests.tuning.test_acting import TOOLS

RATE = "learning_rate"


def injected(rate):
    """Return SGD with a rate that falls to 0, in `optax.inject_hyperparams`."""
    fall = optax.linear_schedule(1.0, 0.0, 10)
    inject = optax.inject_hyperparams(optax.sgd)
    return inject(learning_rate=lambda step: rate * fall(step))


REFUSED = {
    "finder": lambda rate: adaptax.adam(adaptax.cosine(rate, 10)),
    "search": lambda rate: optax.sgd(optax.linear_schedule(rate, 0.0, 10)),
    "population": lambda rate: optax.sgd(optax.linear_schedule(rate, 0.0, 5)),
    "branch": lambda rate: adaptax.adam(adaptax.linear(rate, total_steps=5)),
}
ACCEPTED = {
    "a function that is constant": lambda rate: optax.adam(lambda step: rate),
    "a schedule that is constant": lambda rate: adaptax.adam(adaptax.constant(rate)),
    "no schedule": optax.adam,
}


@pytest.mark.parametrize("tool", REFUSED)
def test_a_schedule_that_ends_what_a_tool_varies_is_refused(tool):
    with pytest.raises(ValueError, match="'learning_rate' is multiplied by a schedule"):
        TOOLS[tool](line_trial(REFUSED[tool]), RATE)


def test_a_warm_up_inside_the_trial_of_a_finder_is_refused():
    def warmed_up(rate):
        return adaptax.adam(adaptax.warmup(adaptax.constant(rate), 10))

    with pytest.raises(ValueError, match="not at all at first"):
        TOOLS["finder"](line_trial(warmed_up), RATE)


def test_a_schedule_that_hardly_moves_within_a_finder_changes_nothing():
    def slow(rate):
        return adaptax.adam(adaptax.cosine(rate, 10_000))

    found = TOOLS["finder"](line_trial(slow), RATE)
    trial, losses = line_trial(slow), []
    state = trial.init({RATE: 1e-7}, jax.random.fold_in(jax.random.key(0), 0))
    advance = jax.jit(lambda rate, state: trial.advance({RATE: rate}, state, 1))
    for rate in found.learning_rates:
        state, loss = advance(rate, state)
        losses.append(float(loss[0]))
    np.testing.assert_allclose(found.losses[0], losses, rtol=1e-4)


def test_a_population_may_vary_the_peak_of_a_schedule_that_goes_on():
    def decaying(rate):
        return adaptax.adam(adaptax.cosine(rate, 10))

    assert TOOLS["population"](line_trial(decaying), RATE).losses.shape == (3, 10)


def test_a_population_that_varies_nothing_may_end_by_a_schedule():
    found = adaptax.population_based_training(
        line_trial(REFUSED["population"]),
        {RATE: [0.1, 0.05]},
        num_steps=20,
        interval=10,
        strategy="vmap",
        progress=False,
    )
    assert np.isfinite(found.scores).all()


def test_a_schedule_within_injected_hyperparameters_is_refused():
    with pytest.raises(ValueError, match="'learning_rate' is multiplied by a schedule"):
        TOOLS["finder"](line_trial(injected), RATE)


def test_an_injected_schedule_of_the_momentum_does_not_mislead_a_finder():
    def optimizer(rate):
        return optax.inject_hyperparams(optax.sgd)(
            learning_rate=lambda step: rate,
            momentum=optax.linear_schedule(0.95, 0.85, 10),
        )

    assert TOOLS["finder"](line_trial(optimizer), RATE).status


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_does_not_depend_on_its_count_costs_no_step(name):
    hparams = {RATE: np.array([0.1], np.float32)}
    trial = line_trial(ACCEPTED[name])
    with jax.numpy_dtype_promotion("standard"):  # for Optax
        inner = require_acting(trial, hparams, [RATE], jax.random.key(0))
    assert not any(inner.is_count)


def test_a_followed_schedule_is_found_by_the_names_of_its_leaves():
    hparams = {RATE: np.array([0.1], np.float32)}
    inner = require_acting(
        line_trial(REFUSED["finder"]), hparams, [RATE], jax.random.key(0)
    )
    pairs = zip(inner.names, inner.is_count, strict=True)
    assert [name for name, mark in pairs if mark] == [".opt_state[1][0].step"]
    assert sum(inner.is_own) == 3


def test_a_scheduled_decay_of_the_weights_does_not_mislead_a_finder():
    def optimizer(rate):
        decay = optax.add_decayed_weights(optax.linear_schedule(0.01, 0.0, 10))
        steps = optax.chain(optax.scale_by_adam(), decay)
        return optax.chain(steps, optax.scale(-jnp.asarray(rate)))

    with jax.numpy_dtype_promotion("standard"):  # for Optax
        assert TOOLS["finder"](line_trial(optimizer), RATE).status
