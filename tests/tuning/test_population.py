"""Population training: who copies whom, what varies, the schedule that it found."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from interruptions import check_resuming
from lines import X, Y, line_trial

import adaptax
from adaptax import spaces
from adaptax.tuning.population_rule import PopulationRule

SPACE = {"learning_rate": spaces.log_uniform(1e-4, 0.3)}
MEMBERS, INTERVAL, STEPS = 6, 10, 45


def run(**options):
    options = {"members": MEMBERS, "strategy": "map", "space": SPACE, **options}
    space = options.pop("space")
    return adaptax.population_based_training(
        line_trial(),
        space,
        num_steps=STEPS,
        interval=INTERVAL,
        progress=False,
        **options,
    )


@pytest.fixture(scope="module")
def found():
    return run()


def rules(**changes):
    given = {
        "space": SPACE,
        "exploit": "truncation",
        "fraction": 0.25,
        "factors": (0.8, 1.2),
        "resample": 0.0,
        "key": jax.random.key(0),
    }
    return PopulationRule(**{**given, **changes})


def test_the_worst_copy_the_best_and_the_others_stay():
    scores = np.array([3.0, 0.0, 2.0, 9.0, 1.0, 5.0, 4.0, 8.0])
    parents = rules().parents(scores, 1)
    assert set(parents[[3, 7]]) <= {1, 4}
    kept = [0, 1, 2, 4, 5, 6]
    np.testing.assert_array_equal(parents[kept], kept)


def test_equal_scores_are_ordered_by_index():
    parents = rules().parents(np.zeros(8), 1)
    assert set(parents[6:]) <= {0, 1}
    np.testing.assert_array_equal(parents[:6], range(6))


def test_whatever_diverged_is_replaced_even_if_it_is_most():
    scores = np.array([np.inf, 1.0, np.inf, np.inf, np.inf, np.inf, np.inf, np.inf])
    for exploit in ("truncation", "tournament"):
        parents = rules(exploit=exploit).parents(scores, 1)
        assert (parents == 1).all()


def test_a_tournament_never_copies_a_worse_member():
    scores = np.random.default_rng(0).normal(size=50)
    parents = rules(exploit="tournament").parents(scores, 3)
    assert (scores[parents] <= scores).all()
    assert (parents != np.arange(50)).any()


def test_a_population_of_one_goes_on():
    assert rules().parents(np.array([1.0]), 1).tolist() == [0]
    assert run(members=1).scores.shape == (5, 1)


def test_only_copies_are_varied_and_stay_in_the_bounds():
    hparams = {"learning_rate": np.full(40, 0.29, np.float32)}
    copied = np.arange(40) % 2 == 0
    varied = rules().explored(hparams, copied, 1)["learning_rate"]
    np.testing.assert_array_equal(varied[~copied], hparams["learning_rate"][~copied])
    perturbed = np.unique(varied[copied])
    np.testing.assert_allclose(perturbed, [0.8 * 0.29, 0.3], rtol=1e-6)  # not 0.348


def test_resampled_values_are_drawn_from_the_space():
    hparams = {"learning_rate": np.full(40, 0.29, np.float32)}
    varied = rules(resample=1.0).explored(hparams, np.ones(40, bool), 1)
    assert len(np.unique(varied["learning_rate"])) == 40
    assert (varied["learning_rate"] >= 1e-4).all()


def test_a_copy_goes_on_from_its_parents_losses(found):
    for interval in range(1, len(found.parents)):
        for member, parent in enumerate(found.parents[interval]):
            before = found.losses[parent, interval * INTERVAL - 1]
            after = found.losses[member, interval * INTERVAL]
            assert after < 20 * before + 1


def test_the_winners_schedule_trained_anew_gives_its_losses(found):
    schedule = found.schedule()
    assert float(schedule(STEPS - 1)) == found.lived()["learning_rate"][-1]
    trial = line_trial(lambda _: adaptax.gradient_descent(schedule))
    hparams = {"learning_rate": 0.0}
    key = jax.random.fold_in(jax.random.key(0), found.ancestry()[0])
    _, losses = trial.advance(hparams, trial.init(hparams, key), STEPS)
    np.testing.assert_allclose(losses, found.curve(), rtol=1e-4)


def test_the_state_is_that_of_the_best_member(found):
    w = found.state.params
    loss = ((X @ w - Y) ** 2).mean()
    assert loss < 2 * found.scores[-1].min() + 0.1
    assert found.best_member == found.scores[-1].argmin()


def test_hyperparameters_are_those_of_the_parent_or_varied(found):
    rates = found.hparams["learning_rate"]
    for interval in range(1, len(rates)):
        parents = found.parents[interval]
        stayed = parents == np.arange(MEMBERS)
        np.testing.assert_array_equal(
            rates[interval][stayed], rates[interval - 1][stayed]
        )
        assert stayed.sum() < MEMBERS


def test_when_all_diverge_the_last_good_result_is_in_the_error():
    def train(rate_of, space):
        return adaptax.population_based_training(
            line_trial(lambda rate: optax.sgd(rate_of(rate))),
            space,
            num_steps=40,
            interval=10,
            members=3,
            strategy="map",
            progress=False,
        )

    with pytest.raises(adaptax.PopulationDiverged, match="step 10") as caught:
        train(lambda rate: rate, {"learning_rate": spaces.log_uniform(1e8, 1e9)})
    assert caught.value.result.state is None

    def explodes_at_15(rate):
        return lambda step: jnp.where(step < 15, rate, 1e9)

    with pytest.raises(adaptax.PopulationDiverged, match="step 20") as caught:
        train(explodes_at_15, SPACE)
    result = caught.value.result
    assert result.scores.shape == (1, 3)
    assert np.isfinite(result.state.params).all()


@pytest.mark.parametrize("calls", [1, 4, 8])
def test_an_interrupted_run_goes_on_to_the_same_bits(
    found, calls, monkeypatch, tmp_path
):
    resumed = check_resuming(run, calls, monkeypatch, tmp_path)
    np.testing.assert_array_equal(resumed.losses, found.losses)
    np.testing.assert_array_equal(resumed.parents, found.parents)
    jax.tree.map(np.testing.assert_array_equal, resumed.hparams, found.hparams)
    jax.tree.map(
        np.testing.assert_array_equal, resumed.state.params, found.state.params
    )


def test_a_saved_result_is_loaded_whole(found, tmp_path):
    found.save(tmp_path / "population.npz")
    loaded = adaptax.PopulationResult.load(tmp_path / "population.npz")
    np.testing.assert_array_equal(loaded.curve(), found.curve())
    assert loaded.to_records() == found.to_records()


@pytest.mark.parametrize(
    "options",
    [
        {"members": 0},
        {"fraction": 0.0},
        {"fraction": 0.6},
        {"resample": 1.5},
        {"factors": (0.0, 1.2)},
        {"exploit": "best"},
    ],
)
def test_bad_arguments_are_named(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        run(**options)
