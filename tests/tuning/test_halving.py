"""Successive halving: who goes on, what it costs, and that survivors are unharmed."""

import dataclasses

import numpy as np
import optax
import pytest
from interruptions import check_resuming
from lines import line_trial

import adaptax
from adaptax import spaces
from adaptax.tuning.halving import rungs_to
from adaptax.tuning.running import planning

RATES = spaces.log_grid(1e-4, 10.0, 9)
STEPS = 36


def run(**options):
    options = {"seeds": 2, "strategy": "map", **options}
    return adaptax.successive_halving(
        line_trial(),
        {"learning_rate": RATES},
        num_steps=STEPS,
        progress=False,
        **options,
    )


@pytest.fixture(scope="module")
def found():
    return run()


@pytest.fixture(scope="module")
def full():
    return adaptax.sweep(
        line_trial(),
        {"learning_rate": RATES},
        num_steps=STEPS,
        seeds=2,
        strategy="map",
        progress=False,
    )


@pytest.mark.parametrize(
    ("arguments", "rungs"),
    [
        ((81, 27, 3, None), [3, 9, 27, 81]),
        ((100, 4, 2, None), [25, 50, 100]),
        ((100, 1, 3, None), [100]),
        ((5, 1000, 3, None), [1, 5]),
        ((100, 1000, 3, 10), [11, 33, 100]),
    ],
)
def test_each_rung_is_eta_times_the_one_before(arguments, rungs):
    assert rungs_to(*arguments).tolist() == rungs


def test_a_third_goes_on_at_each_rung(found):
    assert found.rungs.tolist() == [4, 12, 36]
    assert [int((found.reached >= rung).sum()) for rung in (1, 2, 3)] == [9, 3, 1]


def test_the_cost_counts_the_steps_taken(found):
    taken = np.isfinite(found.losses[:, 0]) | (found.losses[:, 0] == np.inf)
    diverged = ~np.isfinite(found.losses[:, 0, :4]).all(axis=1)
    assert (taken.sum(axis=1) == found.rungs[found.reached - 1])[~diverged].all()
    assert found.cost == pytest.approx((6 * 4 + 2 * 12 + 36) / (9 * 36))


def test_survivors_take_the_steps_that_they_take_in_a_full_sweep(found, full):
    for member, reached in enumerate(found.reached):
        steps = found.rungs[reached - 1]
        np.testing.assert_allclose(
            found.losses[member, :, :steps], full.losses[member, :, :steps], rtol=1e-5
        )
        assert np.isnan(found.losses[member, :, steps:]).all()


def test_those_who_go_on_were_the_best_of_their_rung(found, full):
    entered = found.reached >= 2
    at_first_rung = full.losses[:, :, 3].mean(axis=1)  # a tenth of 4 steps is 1
    at_first_rung = np.where(np.isfinite(at_first_rung), at_first_rung, np.inf)
    assert at_first_rung[entered].max() <= at_first_rung[~entered].min()


def test_a_member_that_has_diverged_is_never_the_best_however_far_it_came(found):
    scores, last = found.scores.copy(), found.reached == len(found.rungs)
    scores[last] = np.inf
    lost = dataclasses.replace(found, scores=scores)
    assert lost.best is not None
    assert not last[lost.ranking[0]]


def test_the_ranking_is_by_rungs_and_then_by_score(found):
    assert found.reached[found.ranking].tolist() == sorted(found.reached)[::-1]
    winner = int(np.flatnonzero(found.reached == 3)[0])
    assert found.best["learning_rate"] == RATES.values[winner]


@pytest.mark.parametrize("strategy", ["vmap", 2])
def test_the_strategy_does_not_change_who_survives(found, strategy):
    other = run(strategy=strategy)
    np.testing.assert_array_equal(other.reached, found.reached)
    alive = np.isfinite(found.losses)
    np.testing.assert_allclose(other.losses[alive], found.losses[alive], rtol=1e-3)


def test_one_after_the_other_all_rungs_share_one_program(found):
    assert found.about["compilations"] == 1


def test_where_all_diverge_there_is_no_best():
    found = adaptax.successive_halving(
        line_trial(optax.sgd),
        {"learning_rate": spaces.grid([1e9, 1e10, 1e11])},
        num_steps=30,
        strategy="map",
        progress=False,
    )
    assert found.best is None
    assert (found.scores == np.inf).all()


@pytest.mark.parametrize("calls", [1, 3, 5])
def test_an_interrupted_run_goes_on_to_the_same_bits(
    found, calls, monkeypatch, tmp_path
):
    resumed = check_resuming(run, calls, monkeypatch, tmp_path)
    np.testing.assert_array_equal(resumed.losses, found.losses)
    np.testing.assert_array_equal(resumed.reached, found.reached)
    np.testing.assert_array_equal(resumed.scores, found.scores)


def test_a_saved_result_is_loaded_whole(found, tmp_path):
    found.save(tmp_path / "halving.npz")
    loaded = adaptax.HalvingResult.load(tmp_path / "halving.npz")
    assert loaded.best == found.best
    assert loaded.cost == found.cost
    np.testing.assert_array_equal(loaded.ranking, found.ranking)


def test_members_that_do_not_fit_together_are_refused(monkeypatch):
    monkeypatch.setattr(planning, "members_that_fit", lambda *_: 3)
    with pytest.raises(ValueError, match="do not fit into memory together"):
        run()


@pytest.mark.parametrize(
    "options", [{"eta": 1}, {"eta": 2.5}, {"first_rung": 0}, {"first_rung": 99}]
)
def test_bad_arguments_are_named(options):
    with pytest.raises((ValueError, TypeError), match=next(iter(options))):
        run(**options)
