"""Median stopping: what ends early, what it finds, and that it goes on after a stop."""

import numpy as np
import pytest
from interruptions import check_resuming
from lines import line_trial

import adaptax
from adaptax.spaces import log_grid

SPACE = {"learning_rate": log_grid(1e-4, 10.0, 11)}


def run(**options):
    options = {"seeds": 2, "strategy": 3, "grace_steps": 10, **options}
    return adaptax.median_stopping(
        line_trial(), SPACE, num_steps=40, interval=10, progress=False, **options
    )


@pytest.fixture(scope="module")
def found():
    return run()


def test_it_finds_the_best_of_the_sweep_for_less(found):
    swept = adaptax.sweep(
        line_trial(), SPACE, num_steps=40, seeds=2, strategy=3, progress=False
    )
    assert found.best == swept.best
    assert 0.3 < found.cost < 0.9
    finished = found.reached == len(found.rungs)
    assert 0 < finished.sum() < len(finished)
    np.testing.assert_allclose(found.losses[finished], swept.losses[finished], 1e-4)


def test_losses_end_where_a_configuration_ended(found):
    trained = np.isfinite(found.losses).all(axis=1).sum(axis=1)
    fine = np.isfinite(found.scores).all(axis=1)
    np.testing.assert_array_equal(trained[fine], found.rungs[found.reached - 1][fine])
    assert not fine[found.ranking[-1]]


def test_it_compiles_one_training_program(found):
    assert found.about["compilations"] == 1


@pytest.mark.parametrize("calls", [1, 4, 7])
def test_an_interrupted_run_goes_on_to_the_same_bits(
    found, calls, monkeypatch, tmp_path
):
    resumed = check_resuming(run, calls, monkeypatch, tmp_path)
    np.testing.assert_array_equal(resumed.losses, found.losses)
    np.testing.assert_array_equal(resumed.reached, found.reached)


def test_a_saved_result_is_loaded_whole(found, tmp_path):
    found.save(tmp_path / "stopping.json")
    loaded = adaptax.StoppingResult.load(tmp_path / "stopping.json")
    np.testing.assert_array_equal(loaded.losses, found.losses)
    assert loaded.best == found.best
    assert loaded.table() == found.table()


def test_an_interval_longer_than_the_run_is_refused():
    with pytest.raises(ValueError, match="interval must be <= num_steps"):
        adaptax.median_stopping(line_trial(), SPACE, num_steps=5, interval=6)
