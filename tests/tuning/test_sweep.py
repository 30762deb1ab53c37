"""Sweeps: every configuration and seed, judged, ranked, stored and taken up again."""

import jax
import numpy as np
import optax
import pytest
from interruptions import check_resuming, save_always
from lines import X, Y, line_trial

import adaptax
from adaptax import spaces
from adaptax.tuning.running import planning

RATES = spaces.grid([1e-3, 0.1, 0.3, 1e6])
STEPS = 30


@pytest.fixture(scope="module")
def found():
    return run()


def run(**options):
    options = {"seeds": 2, "strategy": "map", **options}
    return adaptax.sweep(
        line_trial(optax.sgd),
        {"learning_rate": RATES},
        num_steps=STEPS,
        progress=False,
        **options,
    )


def test_each_run_equals_the_trial_run_by_hand(found):
    trial = line_trial(optax.sgd)
    for member, rate in enumerate(RATES.values[:2]):
        for seed in range(2):
            hparams = {"learning_rate": rate}
            key = jax.random.fold_in(jax.random.key(0), seed)
            _, losses = trial.advance(hparams, trial.init(hparams, key), STEPS)
            np.testing.assert_allclose(found.losses[member, seed], losses, rtol=1e-5)


def test_the_score_is_the_mean_loss_of_the_last_tenth(found):
    last = found.losses[:, :, -3:].mean(axis=2, dtype=float).astype(np.float32)
    kept = np.isfinite(last)
    np.testing.assert_array_equal(found.scores[kept], last[kept])
    assert (found.scores[~kept] == np.inf).all()


def test_a_member_that_diverges_is_last_and_its_losses_are_nan(found):
    assert found.ranking[-1] == 3
    assert found.scores[3, 0] == np.inf
    assert np.isnan(found.losses[3, 0, -1])
    assert found.best == {"learning_rate": pytest.approx(0.1)}


@pytest.mark.parametrize("strategy", ["vmap", 3, "auto"])
def test_results_do_not_depend_on_the_strategy_beyond_rounding(found, strategy):
    other = run(strategy=strategy)
    np.testing.assert_allclose(other.losses[:3], found.losses[:3], rtol=1e-4)
    np.testing.assert_array_equal(other.ranking, found.ranking)


def test_a_mesh_of_8_devices_gives_the_same(found):
    mesh = jax.make_mesh((8,), ("members",))
    spread = run(mesh=mesh)
    np.testing.assert_allclose(spread.losses[:3], found.losses[:3], rtol=1e-5)


def test_one_compilation_serves_the_whole_sweep(found):
    assert found.about["compilations"] == 1


def test_waves_that_fit_the_memory_give_the_same(found, monkeypatch):
    monkeypatch.setattr(planning, "members_that_fit", lambda *_: 3)
    np.testing.assert_array_equal(run().losses, found.losses)


def test_an_evaluation_is_the_score_and_its_dict_the_metrics():
    def judge(w, held_out):
        errors = held_out["x"] @ w - held_out["y"]
        return (errors**2).mean(), {"worst": abs(errors).max()}

    trial = line_trial(evaluate=judge, eval_data={"x": X, "y": Y})
    found = adaptax.sweep(
        trial,
        {"learning_rate": spaces.grid([0.01, 0.1])},
        num_steps=20,
        strategy="map",
        progress=False,
    )
    assert found.scores.shape == found.metrics["worst"].shape == (2, 1)
    assert (found.metrics["worst"] ** 2 >= found.scores).all()
    assert "worst" in found.table()


def test_records_and_table_name_the_hyperparameters(found):
    rows = found.to_records()
    assert len(rows) == 8
    assert {"member", "seed", "learning_rate", "score", "last_loss"} <= rows[0].keys()
    assert len(found.table(rows=2).splitlines()) == 4  # a title, two rows, the rest


def test_the_band_over_seeds_surrounds_the_median(found):
    low, median, high = found.curves()
    assert low.shape == (4, STEPS)
    assert ((low <= median) & (median <= high))[:2].all()


def test_the_good_region_is_around_the_best_rate(found):
    band = found.good_region()
    assert band.low < found.best["learning_rate"] * 1.001
    assert band.high > found.best["learning_rate"] * 0.999
    with pytest.raises(ValueError, match="name must be one of"):
        found.good_region("momentum")


def test_a_saved_result_is_loaded_whole(found, tmp_path):
    found.save(tmp_path / "sweep.npz")
    loaded = adaptax.SweepResult.load(tmp_path / "sweep.npz")
    np.testing.assert_array_equal(loaded.losses, found.losses)
    np.testing.assert_array_equal(loaded.scores, found.scores)
    assert loaded.best == found.best
    assert loaded.about["seeds"] == [0, 1]
    with pytest.raises(ValueError, match="halving"):
        adaptax.HalvingResult.load(tmp_path / "sweep.npz")


@pytest.mark.parametrize("calls", [1, 2])
def test_an_interrupted_sweep_goes_on_to_the_same_bits(
    found, calls, monkeypatch, tmp_path
):
    resumed = check_resuming(run, calls, monkeypatch, tmp_path)
    np.testing.assert_array_equal(resumed.losses, found.losses)
    np.testing.assert_array_equal(resumed.scores, found.scores)


def test_a_checkpoint_of_another_sweep_is_refused(monkeypatch, tmp_path):
    save_always(monkeypatch)
    run(checkpoint=tmp_path)
    with pytest.raises(ValueError, match="seeds"):
        run(checkpoint=tmp_path, seeds=1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_steps": 0}, ValueError, "num_steps"),
        ({"num_steps": 1.5}, TypeError, "num_steps"),
        ({"seeds": 0}, ValueError, "seeds"),
        ({"seeds": []}, ValueError, "seeds"),
        ({"strategy": "pmap"}, ValueError, "strategy"),
        ({"strategy": 0}, ValueError, "strategy"),
        ({"key": "a"}, TypeError, "key"),
    ],
)
def test_bad_arguments_are_named(options, error, message):
    options = {"num_steps": 2, **options}
    with pytest.raises(error, match=message):
        adaptax.sweep(line_trial(), {"learning_rate": RATES}, progress=False, **options)


def test_a_hyperparameter_that_changes_a_shape_is_said_to_be_static():
    def width(hparams):
        return jax.numpy.ones(hparams["width"])

    trial = adaptax.Trial(
        lambda hparams, key: width(hparams), lambda h, state, n: (state, state[:n])
    )
    with pytest.raises(ValueError, match="static"):
        adaptax.sweep(trial, {"width": spaces.grid([8, 16])}, num_steps=1)


def test_equal_seeds_give_equal_runs():
    same = run(seeds=[7, 7])
    np.testing.assert_array_equal(same.losses[:, 0], same.losses[:, 1])
