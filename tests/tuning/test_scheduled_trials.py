"""Scheduled trials: the hyperparameters of each step, data, and what is shared."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lines import X, Y, line_trial

import adaptax
from adaptax.tuning.trials.scheduled_trials import scheduled

FIRST = {"first": np.float32(0.2)}


def halving(hparams, step):
    return {"learning_rate": hparams["first"] * 0.5 ** step.astype(jnp.float32)}


@pytest.fixture(scope="module")
def trial():
    return line_trial(evaluate=lambda w, shift: w.sum() + shift, eval_data=1.0)


def test_each_step_has_its_own_hyperparameters(trial):
    run = scheduled(trial, halving)
    key = jax.random.key(0)
    _, losses = run.advance(FIRST, run.init(FIRST, key), 6)
    state, by_hand = trial.init({"learning_rate": 0.2}, key), []
    for step in range(6):
        state, found = trial.advance({"learning_rate": 0.2 * 0.5**step}, state, 1)
        by_hand.append(float(found[0]))
    np.testing.assert_allclose(losses, by_hand, rtol=1e-6)


def test_some_steps_and_then_others_are_the_same_as_all_at_once(trial):
    run = scheduled(trial, halving)
    start = run.init(FIRST, jax.random.key(0))
    whole, losses = run.advance(FIRST, start, 5)
    state, first = run.advance(FIRST, start, 2)
    state, second = run.advance(FIRST, state, 3)
    np.testing.assert_array_equal(losses, jnp.concatenate([first, second]))
    assert int(state.step) == int(whole.step) == 5


def test_the_step_that_members_share_goes_on_within_a_call():
    def advance(rate, seen, num_steps, shared=None):
        del rate, num_steps
        here = shared.data[shared.step]
        return seen + here, here[None]

    numbers = jnp.arange(10.0)
    counter = adaptax.Trial(
        lambda rate, key, shared=None: jnp.zeros(()), advance, None, numbers
    )
    run = scheduled(counter, lambda rate, step: rate)
    shared = adaptax.Shared(numbers, jnp.int32(4))
    state = run.init(0.0, None, shared=shared)
    _, losses = run.advance(0.0, state, 3, shared=shared)
    assert losses.tolist() == [4.0, 5.0, 6.0]


def test_data_and_evaluation_are_those_of_the_trial(trial):
    run = scheduled(trial, halving)
    assert run.data is trial.data
    state, _ = run.advance(FIRST, run.init(FIRST, jax.random.key(0)), 2)
    held_out = trial.evaluate({"learning_rate": 0.1}, state.state)
    assert float(run.evaluate(FIRST, state)) == float(held_out)
    assert scheduled(line_trial(), halving).evaluate is None


def test_a_trial_is_judged_with_the_hyperparameters_of_its_latest_step():
    judged = adaptax.Trial(
        lambda rate, key: jnp.zeros(()),
        lambda rate, state, n: (state, state[None]),
        lambda rate, state: rate,
    )
    run = scheduled(judged, lambda first, step: first * 2.0 ** step.astype(float))
    state = run.init(jnp.float32(1), None)
    assert float(run.evaluate(jnp.float32(1), state)) == 1.0
    state, _ = run.advance(jnp.float32(1), state, 3)
    assert float(run.evaluate(jnp.float32(1), state)) == 4.0


def test_a_schedule_of_adaptax_gives_what_the_optimizer_would_with_it():
    schedule = adaptax.cosine(0.3, 8)
    run = scheduled(
        line_trial(), lambda hparams, step: {"learning_rate": schedule(step)}
    )
    _, losses = run.advance({}, run.init({}, jax.random.key(0)), 8)
    plain = adaptax.trial(
        lambda key: jax.random.normal(key, (3,)),
        lambda w, batch: jnp.mean((batch["x"] @ w - batch["y"]) ** 2),
        lambda hparams: adaptax.gradient_descent(schedule),
        {"x": X, "y": Y},
        8,
    )
    _, expected = plain.advance({}, plain.init({}, jax.random.key(0)), 8)
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
