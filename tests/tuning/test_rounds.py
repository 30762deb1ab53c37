"""Rules, without training: what each tool trains next, after what it has seen."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from adaptax.spaces import grid
from adaptax.tuning.branching import _Branching
from adaptax.tuning.halving import halving
from adaptax.tuning.rounds import Outcome, Round, curves, once, origins, scored
from adaptax.tuning.stopping import above_median
from adaptax.tuning.sweep import configurations

RATES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def runs_of(seeds=1):
    space = {"learning_rate": grid(RATES)}
    return configurations(space, None, seeds, num_steps=100, key=0)


def trained(now, scores):
    """Return what came of a round in which each run had its score for every loss."""
    scores = np.float32(scores)
    losses = np.repeat(scores[:, None], now.steps, axis=1)
    return Outcome(now.parents, now.hparams, losses, scores, {})


def played(rule, score, rounds=10):
    """Play a rule: `score(rates, round)` tells what the runs of a round have."""
    history = []
    while (now := rule(history)) is not None and len(history) < rounds:
        rates = np.asarray(now.hparams["learning_rate"])
        history.append(trained(now, score(rates, len(history))))
    return history


def rates_of(history):
    return [one.hparams["learning_rate"].tolist() for one in history]


def test_a_single_round_is_the_only_one():
    rule = once("a round")
    assert rule([]) == "a round"
    assert rule(["its outcome"]) is None


def test_a_third_of_each_rung_goes_on():
    rule = halving(runs_of(), np.array([10, 30, 90]), eta=3)
    history = played(rule, lambda rates, _: abs(rates - 0.6))
    assert [len(one.scores) for one in history] == [9, 3, 1]
    assert rates_of(history)[1:] == [pytest.approx([0.5, 0.6, 0.7]), [np.float32(0.6)]]
    assert [one.losses.shape[1] for one in history] == [10, 20, 60]


def test_all_seeds_of_a_configuration_go_on_together():
    rule = halving(runs_of(seeds=2), np.array([10, 30]), eta=3)
    first = rule([])
    scores = np.full(18, 5.0)
    scores[[2, 8, 9, 16]] = 0, 1, 1, 2  # configuration 1, 4 and 8, two of 4
    second = rule([trained(first, scores)])
    assert second.parents.tolist() == [2, 3, 8, 9, 16, 17]


def test_where_all_have_diverged_nothing_goes_on():
    for rule in (
        halving(runs_of(), np.array([10, 30]), eta=3),
        above_median(runs_of(), np.array([10, 20]), 0),
    ):
        assert len(played(rule, lambda rates, _: rates * np.inf)) == 1


def test_what_was_never_better_than_the_median_ends():
    rule = above_median(runs_of(), np.array([10, 20, 30]), 0)
    history = played(rule, lambda rates, _: rates)
    assert rates_of(history)[1] == pytest.approx(RATES[:5])
    assert rates_of(history)[2] == pytest.approx(RATES[:5])  # all are among the median


def test_a_configuration_that_was_once_good_goes_on():
    def score(rates, index):
        return np.where(rates == np.float32(0.9), 0.0 if index == 0 else 9.0, rates)

    history = played(above_median(runs_of(), np.array([10, 20, 30]), 0), score)
    assert 0.9 in np.round(rates_of(history)[2], 1)


def test_before_the_grace_ends_only_the_diverged_end():
    def score(rates, _):
        return np.where(rates > 0.85, np.inf, rates)

    history = played(above_median(runs_of(), np.array([10, 20, 30]), 20), score)
    assert [len(one.scores) for one in history] == [9, 8, 5]


def test_the_best_that_is_left_goes_on_even_if_all_have_become_worse():
    def score(rates, index):
        return rates + np.array([0.0, 50.0, 90.0])[index]

    history = played(above_median(runs_of(), np.array([1, 2, 3]), 0), score)
    assert len(history) == 3


@pytest.mark.parametrize("forecast", [True, False])
def test_a_stage_is_its_branches_and_then_the_best_of_them(forecast):
    space = {"learning_rate": np.float32([0.1, 0.2, 0.3])}
    rule = _Branching([space, space], 5, 20, forecast)
    history = played(rule, lambda rates, _: abs(rates - 0.2))
    assert [len(one.scores) for one in history] == [3, 1, 3, 1]
    assert [one.losses.shape[1] for one in history] == [5, 15, 5, 15]
    assert [one.parents.tolist() for one in history[1:]] == [[1], [0, 0, 0], [1]]
    assert curves(history).shape == (1, 40)


def test_a_curve_goes_back_through_the_parents():
    first = Outcome(None, None, np.float32([[1, 1], [2, 2]]), np.ones(2), {})
    second = Outcome(
        np.array([1, 1, 0]), None, np.float32([[3], [4], [5]]), np.ones(3), {}
    )
    assert curves([first, second]).tolist() == [[2, 2, 3], [2, 2, 4], [1, 1, 5]]
    assert [rows.tolist() for rows in origins([first, second])] == [[0, 1], [1, 1, 0]]
    anew = Outcome(None, None, np.float32([[6], [7]]), np.ones(2), {})
    assert curves([first, second, anew]).tolist() == [[6], [7]]


def test_a_score_is_the_mean_of_the_last_tenth_or_of_what_a_round_says():
    losses = np.float32([np.arange(40, 0, -1), [1] * 37 + [np.nan] * 3])
    assert scored(losses).tolist() == [2.5, np.inf]
    assert scored(losses, part=10).tolist() == [1.0, np.inf]
    assert scored(losses, part=10, window=10).tolist() == [5.5, np.inf]
    evaluated = np.array([7.0, 7.0])
    assert scored(losses, evaluated=evaluated).tolist() == [7.0, np.inf]
    assert scored(losses[:1], evaluated=np.array([np.nan])).tolist() == [np.inf]


def test_the_rule_of_the_guide_keeps_the_better_half():
    text = (Path(__file__).parents[2] / "docs" / "contributing.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(def best_half.*?)```", text, re.DOTALL)
    names = {"np": np, "jax": jax, "Round": Round}
    exec(code, names)
    rule = names["best_half"](runs_of(), np.array([10, 20, 30]))
    history = played(rule, lambda rates, _: abs(rates - 0.3))
    assert [len(one.scores) for one in history] == [9, 5, 3]
    assert sorted(rates_of(history)[-1]) == pytest.approx([0.2, 0.3, 0.4])
