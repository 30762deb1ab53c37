"""A score to maximize: every tool prefers the highest, and diverged runs are last."""

import numpy as np
import pytest
from every_tool import ACCURACIES, LOSSES, RATES, TOOLS, swept

import adaptax
from adaptax import plots, tuning


@pytest.mark.parametrize("tool", TOOLS)
def test_a_loss_is_not_maximized(tool):
    with pytest.raises(ValueError, match='mode="max" needs a trial with evaluate'):
        tool(LOSSES, mode="max")
    with pytest.raises(ValueError, match="mode must be one of 'min', 'max', got 'up'"):
        tool(ACCURACIES, mode="up")


def test_the_loss_on_held_out_data_is_not_maximized_either():
    trial = adaptax.trial(
        lambda key: np.float32(1),
        lambda w, batch: (w * batch["x"]).mean(),
        lambda hparams: adaptax.adam(hparams["learning_rate"]),
        {"x": np.ones(3, np.float32)},
        eval_data={"x": np.ones(3, np.float32)},
    )
    with pytest.raises(ValueError, match="needs a trial with evaluate"):
        swept(trial, mode="max")


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.__name__)
def test_the_highest_score_wins_though_its_loss_is_the_highest(tool, tmp_path, capsys):
    found = tool(ACCURACIES, mode="max", progress=True)
    last = capsys.readouterr().err.splitlines()[-1]
    check = {
        tuning.SweepResult: of_a_sweep,
        tuning.HalvingResult: of_a_race,
        tuning.StoppingResult: of_a_race,
        tuning.PopulationResult: of_a_population,
        tuning.BranchResult: of_branches,
        tuning.SearchResult: of_a_search,
        tuning.RuleResult: of_a_rule,
    }[type(found)]
    best = check(found)
    assert f", best {best}" in last  # the progress names what the result ranks by
    found.save(tmp_path / "found.json")
    assert check(type(found).load(tmp_path / "found.json")) == best


def in_words(score):
    return f"score {score:.4g} (evaluation)"


def shown(scores, accuracies):
    np.testing.assert_array_equal(
        scores, np.where(np.isfinite(scores), accuracies, -np.inf)
    )


def of_a_sweep(found):
    shown(found.scores, found.metrics["accuracy"])
    assert RATES[found.ranking].tolist() == RATES[[2, 3, 1, 0]].tolist()
    assert found.best == {"learning_rate": RATES[2]}
    assert found.table().split()[3:5] == ["0.01", f"{found.scores[2, 0]:.4g}"]
    assert found.table().splitlines()[-1].split()[:2] == ["3.5", "-inf"]
    assert found.good_region(within=0.01).best == pytest.approx(0.01)
    left = plots.sweep(found).axes[0]
    (mean,) = [line for line in left.lines if line.get_label() == "mean over seeds"]
    np.testing.assert_allclose(mean.get_ydata(), np.sort(found.scores[1:, 0])[::-1])
    return in_words(found.scores[2].mean()) + " at learning_rate 0.01"


def of_a_race(found):
    shown(found.scores, found.metrics["accuracy"])
    assert found.best == {"learning_rate": RATES[2]}
    assert found.ranking[-1] == 0
    assert found.reached[0] == 1
    return in_words(found.scores[2].mean()) + " at learning_rate 0.01"


def of_a_population(found):
    shown(found.scores, found.metrics["accuracy"])
    assert found.scores[-1].max() == found.scores[-1, found.best_member]
    assert found.parents[1, 0] in (2, 3)  # the diverged one and
    assert found.parents[1, 1] in (2, 3)  # the least accurate one copy the others
    return in_words(found.scores[-1].max())


def of_branches(found):
    assert found.chosen.tolist() == [2, 2]
    assert (found.forecasts.argmax(axis=1) == found.chosen).all()
    assert (found.forecasts[:, 0] == -np.inf).all()
    assert (found.forecasts[:, 1:] > 0).all()
    return "training loss"


def of_a_search(found):
    shown(found.scores, found.metrics["accuracy"])
    assert found.history[0].argmax() == 0  # the lowest constant rate
    assert found.history.min() == -np.inf
    first = found.table().splitlines()[1].split()
    assert first[1] == f"{found.history[0].max():.4g}"
    assert found.gain.difference == pytest.approx(
        found.score - found.baseline.score, abs=1e-6
    )
    return in_words(found.history.max())


def of_a_rule(found):
    shown(found.scores, found.metrics["accuracy"])
    assert found.best == {"learning_rate": RATES[2]}
    assert found.parents.tolist() == [-1, -1, -1, -1, 2, 3, 4]
    return in_words(found.scores[-1])


def test_the_progress_names_the_mean_loss_that_ranks_a_configuration(capsys):
    found = swept(LOSSES, seeds=2, progress=True)
    last = capsys.readouterr().err.splitlines()[-1]
    best = found.scores.mean(axis=1).min()
    assert f"best score {best:.4g} (mean loss) at learning_rate 0.5" in last
    assert f"{best:.4g}" in found.table().splitlines()[1]
