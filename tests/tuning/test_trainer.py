"""The trainer of a trial's jobs: what it takes, and what can be sent to a worker."""

import pickle

import jax
import numpy as np
import pytest
from lines import line_trial

import adaptax
from adaptax.tuning import Trainer, TrialState, studies

TRIAL = line_trial(adaptax.adam)
TRAIN = Trainer(TRIAL, key=1)


def study():
    space = {"learning_rate": adaptax.spaces.grid([0.1, 0.3])}
    return studies.successive_halving(space, num_steps=8, eta=2, key=1)


@pytest.fixture(scope="module")
def trained():
    """Return the outcomes of the jobs of the first round."""
    jobs = study().ask()
    return jobs, [TRAIN(job) for job in jobs]


def test_a_state_is_pickled_and_is_that_of_the_trial(trained):
    (job, _), ((_, _, state), _) = trained
    again = pickle.loads(pickle.dumps(state))
    own = TRAIN.state_of(job, again)
    assert isinstance(own, TrialState)
    assert own.step == job.steps
    key = jax.random.fold_in(jax.random.key(1), job.seed)

    @jax.jit
    def by_hand(hparams):
        return TRIAL.advance(hparams, TRIAL.init(hparams, key), job.steps)[0].params

    np.testing.assert_allclose(own.params, by_hand(job.hparams), rtol=1e-5)


def test_a_trainer_that_was_sent_elsewhere_trains_the_same(trained):
    (_, job), (_, (losses, _, _)) = trained
    # Functions that are defined in a function are sent by cloudpickle, not by pickle.
    again = Trainer.__new__(Trainer)
    again.__setstate__(TRAIN.__getstate__())
    np.testing.assert_array_equal(again(job)[0], losses)


def test_a_state_must_be_that_of_the_parent(trained):
    jobs, outcomes = trained
    with pytest.raises(ValueError, match="state must be None for job 0, got one"):
        TRAIN(jobs[0], outcomes[0][2])
    halving = study()
    for job, (losses, score, _) in zip(halving.ask(), outcomes, strict=True):
        halving.tell(job, losses, score)
    (later,) = halving.ask()
    with pytest.raises(ValueError, match=f"of job {later.parent}, which job 2 contin"):
        TRAIN(later)


def test_only_a_trial_is_trained():
    with pytest.raises(TypeError, match="trial must be a Trial"):
        Trainer(lambda job: None)
    with pytest.raises(TypeError, match="key must be"):
        Trainer(TRIAL, key="1")
