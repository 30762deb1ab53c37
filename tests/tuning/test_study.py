"""Studies decide what the tools decide, whatever trains the jobs, in any order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptax
from adaptax import tuning
from adaptax.spaces import grid, log_grid, log_uniform
from adaptax.tuning import Round, Trainer, studies
from adaptax.tuning.rounds import Begun

RATES = {"learning_rate": log_grid(0.01, 3.0, 5)}  # the largest diverges
RANDOM = {"learning_rate": log_uniform(0.01, 3.0)}
FEW = {"learning_rate": log_uniform(0.01, 1.0)}


def begin(hparams, key):
    return jax.random.normal(key, ())


def advance(hparams, x, num_steps):
    def step(x, _):
        return x - hparams["learning_rate"] * x, 0.5 * x**2

    return jax.lax.scan(step, x, length=num_steps)


def judge(hparams, x):
    return abs(x), {"x": x}


PLAIN = adaptax.Trial(begin, advance)
JUDGED = adaptax.Trial(begin, advance, judge)
TRAINERS = {trial: Trainer(trial, key=3) for trial in (PLAIN, JUDGED)}
SEARCH = {"population": 4, "generations": 2, "knots": 2, "fresh_seeds": 2}


def better_half(history):
    if not history:
        rates = np.geomspace(0.01, 1.0, 4)
        return Round(5, None, {"learning_rate": rates}, np.arange(4))
    best = np.argsort(history[-1].scores)[: len(history[-1].scores) // 2]
    rates = history[-1].hparams["learning_rate"][best]
    return Round(5, best, {"learning_rate": rates}) if len(best) else None


CASES = {
    "sweep": (JUDGED, (RATES,), {"num_steps": 45, "seeds": [4, 1]}),
    "successive_halving": (PLAIN, (RATES,), {"num_steps": 45, "seeds": 2, "eta": 2}),
    "median_stopping": (
        JUDGED,
        (RATES,),
        {"num_steps": 20, "interval": 10, "mode": "max"},
    ),
    "population_based_training": (
        PLAIN,
        (RANDOM,),
        {"num_steps": 45, "interval": 16, "members": 4},
    ),
    "branch": (
        JUDGED,
        (FEW,),
        {"stages": 2, "stage_steps": 10, "branches": 2, "mode": "max"},
    ),
    "search_schedule": (PLAIN, (), {"num_steps": 8, "baseline": False, **SEARCH}),
    "play_rule": (JUDGED, (better_half,), {}),
}


def made(case):
    _, given, options = CASES[case]
    keyed = {} if case == "play_rule" else {"key": 3}
    return getattr(studies, case)(*given, **options, **keyed)


def trained(study, trial, order, on_tell=None):
    """Train the jobs of a study in a shuffled order; return it, or what replaces it."""
    states = {}
    while not study.done:
        jobs = study.ask()
        for place in order.permutation(len(jobs)):
            job = jobs[place]
            losses, score, state = TRAINERS[trial](job, states.get(job.parent))
            states[job.index] = state
            study.tell(job, losses, score)
            study = on_tell(study) if on_tell else study
    return study


@pytest.mark.parametrize("case", CASES)
def test_a_study_in_any_order_and_after_a_restart_has_the_result_of_the_tool(
    case, tmp_path
):
    trial, given, options = CASES[case]
    tool = getattr(tuning, case)
    steps = {"num_steps": 15} if tool is tuning.play_rule else {}
    how = {"strategy": "map", "progress": False, "key": 3}
    expected = tool(trial, *given, **{**options, **steps}, **how)
    told = []

    def restarted(study):
        told.append(study)
        if len(told) % 6:
            return study
        study.save(tmp_path / "study.npz")
        again = made(case)
        again.load(tmp_path / "study.npz")
        return again

    found = trained(made(case), trial, np.random.default_rng(0), restarted).result()
    assert type(found) is type(expected)
    theirs = expected.arrays()
    for name, array in found.arrays().items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)
        assert array.dtype == theirs[name].dtype
    assert found.arrays().keys() == theirs.keys()
    assert found.table() == expected.table()
    assert found.about["member_steps"] == expected.about["member_steps"]


def three(**options):
    return studies.sweep(
        {"learning_rate": grid([0.1, 0.2, 0.4])}, num_steps=4, **options
    )


def test_every_job_is_asked_for_once_and_is_plain_python():
    study = studies.successive_halving(
        RATES, num_steps=9, seeds=[5, 6], eta=3, first_rung=3
    )
    jobs = study.ask()
    assert study.ask() == []
    assert [job.index for job in jobs] == list(range(10))
    assert [job.seed for job in jobs] == [5, 6] * 5
    assert all(type(job.hparams["learning_rate"]) is float for job in jobs)
    for job in jobs:
        study.tell(job, [job.index] * job.steps)
    later = study.ask()
    assert [job.parent for job in later] == [0, 1]
    assert [job.seed for job in later] == [5, 6]
    assert {(job.start, job.steps) for job in later} == {(3, 6)}
    assert study.best.index == 0
    assert (
        repr(study)
        == "<Study of successive halving: 1 rounds, 0/2 jobs of the next one>"
    )


def test_what_is_told_wrongly_is_refused_by_name_and_changes_nothing():
    study, fine = three(), [1.0, 1.0, 1.0, 1.0]
    first, second, third = study.ask()
    study.tell(first, fine)
    other = studies.sweep(RATES, num_steps=4).ask()[2]
    refused = [
        (ValueError, "job 0 was told already", (first, fine)),
        (ValueError, "job must be one that ask.. returned, got the index 3", (3, fine)),
        (ValueError, "got the index -1", (-1, fine)),
        (ValueError, "job 2 must be that of this study", (other, fine)),
        (TypeError, "job must be a Job", ("1", fine)),
        (ValueError, "losses must be the 4 of the job's steps", (second, fine[:3])),
        (ValueError, "got the shape .4, 1", (second, np.ones((4, 1)))),
        (TypeError, "losses must be real numbers", (second, "loss")),
        (TypeError, "losses must be real numbers", (second, [1, [2], 3, 4])),
        (TypeError, "losses must be real numbers", (second, np.ones(4, complex))),
        (ValueError, "score must be given for all jobs or for none", (second, fine, 1)),
        (
            ValueError,
            "losses must be given for all jobs or for none",
            (second, None, 1),
        ),
        (TypeError, "score must be real numbers", (second, fine, "1")),
        (ValueError, "score must be one number", (second, fine, [1.0, 2.0])),
        (TypeError, "score must have a dict of metrics", (second, fine, (1.0, 2.0))),
    ]
    for error, words, arguments in refused:
        with pytest.raises(error, match=words):
            study.tell(*arguments)
    with pytest.raises(ValueError, match=r"result\(\) needs .* 1/3 jobs of the next"):
        study.result()
    study.tell(second.index, jnp.ones(4))
    study.tell(third, [1, 1, 1, np.nan])
    with pytest.raises(ValueError, match="all were told"):
        study.tell(third, fine)
    assert study.result().scores.tolist() == [[1], [1], [1]]


def test_a_job_that_failed_counts_as_diverged():
    study = three()
    for job, losses in zip(
        study.ask(), (None, [3, 2, 1, 1], [np.nan] * 4), strict=True
    ):
        study.tell(job, losses)
    found = study.result()
    assert np.isinf(found.scores[:, 0]).tolist() == [True, False, True]
    assert found.best == {"learning_rate": pytest.approx(0.2)}


def test_scores_alone_are_enough_where_the_losses_are_not_needed():
    study = three()
    for job, score in zip(study.ask(), (2.0, np.nan, 1.0), strict=True):
        study.tell(job, None, (score, {"accuracy": 0.5}))
    found = study.result()
    assert found.scores[:, 0].tolist() == [2.0, np.inf, 1.0]
    assert found.metrics["accuracy"].tolist() == [[0.5]] * 3
    assert np.isnan(found.losses).all()


def test_a_score_to_maximize_must_be_told():
    study = three(mode="max")
    first, *_ = study.ask()
    with pytest.raises(ValueError, match='score must be given with mode="max"'):
        study.tell(first, [1.0] * 4)
    for index in range(3):
        study.tell(index, None, index)
    assert study.best.index == 2
    assert study.result().scores.tolist() == [[0], [1], [2]]
    assert study.result().best == {"learning_rate": pytest.approx(0.4)}


def test_metrics_that_some_jobs_lack_are_nan():
    study = studies.successive_halving(RATES, num_steps=9, eta=3)
    while jobs := study.ask():
        for job in jobs:
            metrics = {"x": 1.0} if job.start and job.index % 2 else {}
            study.tell(job, None, (float(job.index), metrics))
    assert study.result().metrics["x"].shape == (5, 1)


def test_branching_decides_by_the_losses_and_gives_up_like_the_tool():
    study = studies.branch(FEW, stages=1, stage_steps=20, branches=2)
    first, second = study.ask()
    with pytest.raises(ValueError, match="score must be None for job 0: branching"):
        study.tell(first, [1.0, 1.0], 1.0)
    study.tell(first, None)
    study.tell(second, [np.inf, np.inf])
    for _ in range(2):
        with pytest.raises(
            FloatingPointError, match="every branch of stage 0 diverged"
        ):
            study.ask()


def test_a_population_without_survivors_raises_with_the_result():
    study = studies.population_based_training(FEW, num_steps=4, interval=2, members=2)
    for job in study.ask():
        study.tell(job, None)
    assert study.done
    assert study.best is None
    with pytest.raises(adaptax.PopulationDiverged, match="diverged by step 2"):
        study.result()


@pytest.mark.parametrize("kind", ["json", "npz"])
def test_a_saved_study_belongs_to_its_arguments(kind, tmp_path):
    study, path = three(), tmp_path / f"study.{kind}"
    study.tell(1, [1, 2, 3, 4])
    study.save(path)
    again = three()
    again.load(path)
    assert [job.index for job in again.ask()] == [0, 2]
    with pytest.raises(ValueError, match=r"load\(\) needs a new study"):
        again.load(path)
    for other, differing in [
        (studies.sweep(RATES, num_steps=4), "hparams"),
        (three(seeds=2), "seeds"),
        (three(key=1), "key"),
        (studies.successive_halving(RATES, num_steps=4), "tool"),
    ]:
        with pytest.raises(ValueError, match=f"has another study: .*{differing}"):
            other.load(path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="adaptax study"):
        three().load(path)


def test_a_rule_with_a_memory_of_its_own_is_found_out(tmp_path):
    calls = []

    def forgetful(history):
        calls.append(history)
        rates = {"learning_rate": np.array([0.1 * len(calls) * len(history)])}
        return Round(1, None, rates, np.arange(1)) if len(history) < 3 else None

    study = studies.play_rule(forgetful)
    for _ in range(2):
        study.tell(study.ask()[0], [1.0])
    study.save(tmp_path / "study.npz")
    again = studies.play_rule(forgetful)
    with pytest.raises(ValueError, match="other jobs than this study"):
        again.load(tmp_path / "study.npz")


def test_a_study_cannot_begin_from_states_of_another_session():
    begun = Begun({}, np.ones((1, 2), np.float32))
    rates = {"learning_rate": np.array([0.1])}
    now = Round(1, None, rates, np.arange(1), begun=begun)
    with pytest.raises(ValueError, match="begun must be None in a round of a study"):
        studies.play_rule(lambda history: now).ask()
