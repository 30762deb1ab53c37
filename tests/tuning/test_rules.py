"""Rules of one's own: the page about them runs, and what they ask for is checked."""

import re
from pathlib import Path

import chex
import jax.numpy as jnp
import numpy as np
import pytest

import adaptax
from adaptax.tuning import Round, RuleResult, play_rule
from adaptax.tuning.running import planning

PAGE = Path(__file__).parents[2] / "docs" / "write_a_tool.md"
VALLEY = adaptax.trial(
    init_params=lambda key: jnp.ones(3),
    loss=lambda w, curvature: 0.5 * jnp.sum(curvature[0] * w**2),
    optimizer=lambda hparams: adaptax.gradient_descent(hparams["learning_rate"]),
    data=jnp.array([[1.0, 0.5, 0.1]]),
)
OPTIONS = {"num_steps": 20, "strategy": "map", "progress": False}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Run the page from top to bottom, and return what it defines."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    results = []

    def kept(*arguments, **options):
        results.append(play_rule(*arguments, **{**options, **OPTIONS}))
        return results[-1]

    names = {"trial": VALLEY, "results": results}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("page"))
        patch.setattr(adaptax.tuning, "play_rule", kept)
        for block in blocks:
            exec(compile(block, str(PAGE), "exec"), names)
        names["loaded"] = RuleResult.load("zoom.npz")
    return names


def rates_of(found):
    rates = found.hparams["learning_rate"]
    return [rates[found.rounds == index] for index in range(found.rounds.max() + 1)]


def test_zooming_in_finds_a_better_rate_round_by_round(page):
    found = page["results"][0]
    wide, *_, fine = rates_of(found)
    assert len(wide) == len(fine) == 5
    assert fine[-1] / fine[0] < (wide[-1] / wide[0]) ** 0.3
    best = [found.scores[found.rounds == index].min() for index in range(3)]
    assert best[2] <= best[1] <= best[0]
    assert found.best["learning_rate"] in fine
    assert (found.parents == -1).all()


def test_runs_that_go_on_have_a_parent_and_lose_less(page):
    found = page["results"][1]
    assert found.rounds.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    later = found.rounds > 0
    assert (found.rounds[found.parents[later]] == found.rounds[later] - 1).all()
    assert (found.losses[later, -1] < found.losses[found.parents[later], -1]).all()
    assert found.state.step == 60


def test_a_result_is_saved_and_loaded_and_has_a_row_for_each_run(page):
    found, loaded = page["results"][0], page["loaded"]
    chex.assert_trees_all_equal(loaded.losses, found.losses)
    assert loaded.best == found.best
    assert len(found.to_records()) == 15
    assert found.to_records()[7]["round"] == 1


def wider_later(history):
    """Try two rates, then six, and continue four of these."""
    if len(history) == 2:
        rates = history[-1].hparams["learning_rate"][2:]
        return Round(5, np.arange(2, 6), {"learning_rate": rates})
    if len(history) < 2:
        rates = np.geomspace(0.01, 0.5, 2 if not history else 6)
        return Round(5, None, {"learning_rate": rates}, seeds=np.arange(len(rates)))
    return None


@pytest.mark.parametrize("fitting", [100, 4])
def test_a_later_round_may_have_more_runs_than_the_first(fitting, monkeypatch):
    monkeypatch.setattr(planning, "members_that_fit", lambda *_: fitting)
    if fitting < 6:  # the last round continues runs of one in two chunks
        with pytest.raises(ValueError, match=r"6 runs do not fit .* about 4 would"):
            play_rule(VALLEY, wider_later, **OPTIONS)
        return
    found = play_rule(VALLEY, wider_later, **OPTIONS)
    assert np.bincount(found.rounds).tolist() == [2, 6, 4]
    six = {"learning_rate": np.geomspace(0.01, 0.5, 6)}
    alone = adaptax.sweep(
        VALLEY, six, num_steps=10, strategy="map", progress=False
    ).losses[2:, 0]
    before, after = found.losses[4:8], found.losses[8:]
    together = np.concatenate([before[:, :5], after[:, :5]], axis=1)
    np.testing.assert_array_equal(together, alone)


def test_an_interrupted_rule_goes_on_to_the_same_result(page, tmp_path):
    rule = page["zoom"](1e-3, 1.0, num=3)
    whole = play_rule(VALLEY, rule, **OPTIONS)

    def broken(history):
        if len(history) == 2:
            raise RuntimeError("a pipe burst")
        return rule(history)

    with pytest.raises(RuntimeError, match="a pipe burst"):
        play_rule(VALLEY, broken, **OPTIONS, checkpoint=tmp_path)
    for _ in range(2):  # from where it ended, and from the end
        found = play_rule(VALLEY, rule, **OPTIONS, checkpoint=tmp_path)
        chex.assert_trees_all_equal(found.losses, whole.losses)
        chex.assert_trees_all_equal(found.hparams, whole.hparams)
    assert found.about["compilations"] == 0
    with pytest.raises(ValueError, match=r"settings\.rounds"):
        play_rule(VALLEY, rule, **OPTIONS, checkpoint=tmp_path, settings={"rounds": 3})


ONE = {"learning_rate": np.array([0.1])}
REFUSED = {
    "nothing at all": (
        None,
        ValueError,
        "rule must return a round for an empty history",
    ),
    "another thing": ("a round", TypeError, "rule must return a Round or None"),
    "no seeds": (Round(5, None, ONE), ValueError, "either seeds"),
    "both": (Round(5, np.array([0]), ONE, np.array([0])), ValueError, "either seeds"),
    "parents of none": (Round(5, np.array([0]), ONE), ValueError, "among the 0 runs"),
    "too many seeds": (Round(5, None, ONE, np.arange(2)), ValueError, "as many seeds"),
    "no steps": (Round(0, None, ONE, np.arange(1)), ValueError, "steps must be >= 1"),
    "a number": (
        Round(5, None, {"a": 0.1}, np.arange(1)),
        ValueError,
        "one number for",
    ),
    "no runs": (Round(5, None, {}, np.arange(1)), ValueError, "one number for each"),
}


@pytest.mark.parametrize(("first", "error", "says"), REFUSED.values(), ids=REFUSED)
def test_a_round_that_cannot_be_trained_is_refused_before_anything_is(
    first, error, says
):
    with pytest.raises(error, match=says):
        play_rule(VALLEY, lambda history: first, **OPTIONS)
