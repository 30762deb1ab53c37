"""The benchmark's statistics, against cases that were worked out by hand."""

import numpy as np
import pytest

from adaptax.bench.tuning import protocol
from adaptax.bench.tuning.protocol import LOOKS

INF, NAN = float("inf"), float("nan")


def test_a_smoothed_curve_is_a_mean_of_three_looks_and_infinite_beside_a_gap():
    curve = np.array([[6.0, 3.0, 3.0, 0.0, NAN, 0.0]])
    smooth = protocol.smoothed(curve)
    np.testing.assert_allclose(smooth, [[6, 5, 4, 2, INF, INF]])
    assert protocol.best_losses(curve) == 2
    assert protocol.best_losses(np.full((1, 5), NAN)) == INF


def test_the_chosen_rate_has_the_least_median_not_the_least_loss():
    lucky = np.array([0.0, 9.0, 9.0])
    steady = np.array([2.0, 3.0, 4.0])
    curves = np.repeat(np.concatenate([lucky, steady])[:, None], LOOKS, axis=1)
    rates = np.array([1.0] * 3 + [0.1] * 3)
    assert protocol.choose(rates, curves) == 0.1
    assert protocol.choose(rates, np.full_like(curves, NAN)) == 1.0


def test_the_target_is_what_four_of_five_runs_reach():
    curves = np.arange(1.0, 11)[:, None] * np.ones(LOOKS)
    target = protocol.target(curves)
    assert target == 8
    assert np.isfinite(protocol.budgets(curves, target)).sum() == 8
    assert protocol.target(curves[:3]) == 3


def test_a_budget_is_the_first_look_at_or_below_the_target():
    falling = np.linspace(10.0, 0.0, LOOKS)
    flat = np.full(LOOKS, 20.0)
    longer = np.linspace(10.0, 0.0, LOOKS)
    budgets = protocol.budgets(np.stack([falling, flat, longer]), 5.0)
    look = 1 + np.argmax(protocol.smoothed(falling[None])[0] <= 5)
    np.testing.assert_allclose(budgets, [look / LOOKS, INF, look / LOOKS])
    beyond = np.concatenate([flat, falling])
    assert protocol.budgets(beyond[None], 5.0) > 1


def test_ratios_are_paired_and_say_who_diverged():
    ours, theirs = np.array([1.0, INF, 2.0, NAN]), np.array([2.0, 1.0, NAN, INF])
    np.testing.assert_array_equal(protocol.ratios(ours, theirs), [0.5, INF, 0, INF])


def test_pairwise_scores_are_integrals_of_profiles():
    ours, theirs = np.array([1, 1, INF, INF, 3]), np.array([1, 2.5, 1, INF, 0.5])
    first, second = protocol.pairwise_scores(ours, theirs)
    assert first == pytest.approx((1 + 1) / 5)  # the last takes 6 times as long
    assert second == pytest.approx((1 + 0.5 + 1 + 1) / 5)
    same, other = protocol.pairwise_scores(theirs, theirs)
    assert same == other == 0.8


def test_a_score_is_the_integral_of_the_profile():
    ours = np.array([1, 1.3, 2.7, 3.1, INF])
    taus = np.linspace(1, 4, 30_001)
    profile = (ours[None] <= taus[:, None]).mean(axis=1)
    found, _ = protocol.pairwise_scores(ours, np.ones(5))
    assert found == pytest.approx(profile[:-1].mean(), abs=1e-4)


@pytest.mark.parametrize(("reached", "runs"), [(1, 3), (2, 5), (5, 5)])
def test_the_cost_of_a_sweep_is_that_of_a_random_search(reached, runs):
    generator = np.random.default_rng(0)
    good = np.arange(runs) < reached
    trials = [1 + np.argmax(generator.permutation(good)) for _ in range(20_000)]
    expected = protocol.sweep_budget(reached, runs)
    assert expected == pytest.approx(np.mean(trials), rel=0.02)
    assert protocol.sweep_budget(0, runs) == INF
