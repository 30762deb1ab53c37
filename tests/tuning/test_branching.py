"""Branching: the fit that forecasts, who is chosen, and the run that comes of it."""

import jax
import numpy as np
import optax
import pytest
from interruptions import check_resuming
from lines import line_trial

import adaptax
from adaptax import spaces
from adaptax.tuning.analysis.forecasts import forecasts_of

RATES = spaces.grid([1e-4, 0.01, 0.1, 1e6])


def run(**options):
    options = {"stages": 3, "stage_steps": 20, "explore_steps": 5, **options}
    return adaptax.branch(
        line_trial(optax.sgd),
        {"learning_rate": RATES},
        strategy="map",
        progress=False,
        **options,
    )


@pytest.fixture(scope="module")
def found():
    return run()


def test_an_exponential_is_forecast_where_it_ends():
    times = np.arange(40)
    losses = 2 * np.exp(-times / 15)[None] + 0.5
    end = 2 * np.exp(-99 / 15) + 0.5
    assert forecasts_of(losses, 100)[0] == pytest.approx(end, abs=0.02)


def test_a_curve_that_rises_or_is_flat_is_forecast_to_stay():
    flat, rising = np.full(40, 3.0), np.linspace(1.0, 2.0, 40)
    found = forecasts_of(np.stack([flat, rising]), 400)
    assert found[0] == pytest.approx(3.0)
    assert found[1] == pytest.approx(2.0, abs=0.05)


def test_losses_that_are_not_finite_are_left_out_of_a_forecast():
    curve = 1 + np.exp(-np.arange(40) / 10)
    losses = np.stack([np.full(40, np.nan), curve, curve])
    losses[2, [3, 17]] = np.nan, np.inf
    found = forecasts_of(losses, 400)
    assert found[0] == np.inf
    np.testing.assert_allclose(found[1:], 1.0, atol=0.02)


def test_the_branch_with_the_least_forecast_goes_on(found):
    np.testing.assert_array_equal(found.chosen, found.forecasts.argmin(axis=1))
    assert (found.forecasts[:, 3] == np.inf).all()
    for stage, chosen in enumerate(found.chosen):
        begun = 20 * stage
        np.testing.assert_array_equal(
            found.losses[begun : begun + 5], found.explored[stage, chosen]
        )


def test_all_branches_start_from_the_state_where_the_stage_before_ended(found):
    firsts = found.explored[:, :, 0]
    np.testing.assert_allclose(firsts, firsts[:, :1].repeat(4, axis=1), rtol=1e-6)


def test_the_schedule_trained_anew_gives_the_losses(found):
    schedule = found.schedule()
    trial = line_trial(lambda _: adaptax.gradient_descent(schedule))
    hparams = {"learning_rate": 0.0}
    key = jax.random.fold_in(jax.random.key(0), 0)
    state, losses = trial.advance(hparams, trial.init(hparams, key), 60)
    np.testing.assert_allclose(losses, found.losses, rtol=1e-4)
    np.testing.assert_allclose(state.params, found.state.params, rtol=1e-4)


def test_the_cost_is_that_of_the_branches(found):
    assert found.cost == pytest.approx((3 * (20 + 3 * 5)) / 60)


def test_branches_in_turn_and_the_one_that_goes_on_share_a_program(found):
    assert found.about["compilations"] == 1


def test_where_every_branch_diverges_it_says_so():
    with pytest.raises(FloatingPointError, match="stage 0"):
        adaptax.branch(
            line_trial(optax.sgd),
            {"learning_rate": spaces.grid([1e8, 1e9])},
            stages=1,
            stage_steps=20,
            explore_steps=10,
            strategy="map",
            progress=False,
        )


@pytest.mark.parametrize("calls", [6, 11])
def test_an_interrupted_run_goes_on_to_the_same_bits(
    found, calls, monkeypatch, tmp_path
):
    resumed = check_resuming(run, calls, monkeypatch, tmp_path)
    np.testing.assert_array_equal(resumed.losses, found.losses)
    np.testing.assert_array_equal(resumed.explored, found.explored)


def test_a_saved_result_is_loaded_whole(found, tmp_path):
    found.save(tmp_path / "branches.npz")
    loaded = adaptax.BranchResult.load(tmp_path / "branches.npz")
    np.testing.assert_array_equal(loaded.losses, found.losses)
    assert loaded.cost == found.cost
    assert float(loaded.schedule()(25)) == float(found.schedule()(25))


@pytest.mark.parametrize(
    "options", [{"stages": 0}, {"stage_steps": 1}, {"explore_steps": 21}]
)
def test_bad_arguments_are_named(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        run(**options)
