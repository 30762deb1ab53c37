"""The horizons benchmark: its lengths, its losses, its report, and its resumption."""

import json

import jax
import numpy as np
import pytest

import adaptax
from adaptax.bench.__main__ import main
from adaptax.bench.horizons import benchmark, runs
from adaptax.bench.horizons.report import Results, write_report
from adaptax.bench.horizons.runs import FRACTIONS, HORIZONS, SHAPES
from adaptax.bench.shared.tasks import TASKS

STEPS, RATES, SEEDS = 20, np.array([1e-2, 1e-1]), (3, 4)


@pytest.fixture(scope="module")
def cooled():
    return runs.cooled(TASKS["quadratic"], STEPS, RATES, SEEDS)


def test_the_shares_of_steps_are_those_of_the_lengths():
    horizons, cooling = runs.lengths(400)
    assert horizons.tolist() == [200, 300, 400, 600, 800]
    assert cooling.tolist() == [
        [20, 30, 40, 60, 80],
        [40, 60, 80, 120, 160],
        [80, 120, 160, 240, 320],
    ]
    trunks_and_branches = [720 + 230, 640 + 460, 480 + 920]
    np.testing.assert_allclose(
        runs.share_of_steps(400), np.array(trunks_and_branches) / 2300
    )


@pytest.mark.parametrize(("fraction", "shape", "horizon"), [(0, 3, 1), (1, 0, 4)])
def test_a_cool_down_is_the_schedule_that_has_it_from_the_start(
    cooled, fraction, shape, horizon
):
    """`warmup_stable_decay` knows its end; the trunk is given an order on its way."""
    task, problem = TASKS["quadratic"], TASKS["quadratic"].problem()
    horizons, cooling = runs.lengths(STEPS)
    schedule = adaptax.warmup_stable_decay(
        RATES[1],
        int(horizons[horizon]),
        warmup_steps=1,
        decay_steps=int(cooling[fraction, horizon]),
        shape=SHAPES[shape],
    )
    trial = adaptax.trial(
        task.init,
        task.loss,
        lambda hparams: adaptax.adamw(schedule, weight_decay=0.01),
        problem.train,
        problem.batch_size,
        has_key=True,
    )
    state = trial.init({}, jax.random.key(SEEDS[0]))
    state, _ = trial.advance({}, state, int(horizons[horizon]))
    expected = task.measure(state.params, problem.test, jax.random.key(7))
    found = cooled.test[fraction, shape, horizon, 1, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_cosine_ends_at_its_horizon():
    task, problem = TASKS["quadratic"], TASKS["quadratic"].problem()
    peaks = np.tile(RATES, (len(HORIZONS), 1))
    found = runs.cosines(task, STEPS, peaks, SEEDS)
    steps = int(runs.lengths(STEPS)[0][2])
    trial = adaptax.trial(
        task.init,
        task.loss,
        lambda hparams: adaptax.adamw(
            adaptax.cosine(RATES[1], steps, warmup_steps=steps // 20),
            weight_decay=0.01,
        ),
        problem.train,
        problem.batch_size,
        has_key=True,
    )
    state = trial.init({}, jax.random.key(SEEDS[1]))
    state, _ = trial.advance({}, state, steps)
    expected = task.measure(state.params, problem.test, jax.random.key(7))
    np.testing.assert_allclose(found.test[2, 1, 1], expected, rtol=1e-4)


def test_the_kinds_of_cool_downs_differ(cooled):
    assert cooled.test.shape == (3, 6, len(HORIZONS), len(RATES), len(SEEDS))
    assert np.isfinite(cooled.test).all()
    of_longest = cooled.test[:, :, -1, 1, 0]
    assert len(np.unique(of_longest.round(6))) > 6


def _record(name, cosines, cooled):
    ways = (len(FRACTIONS), len(SHAPES))
    return {
        "task": name,
        "steps": 400,
        "cosine_rates": [1e-2] * len(HORIZONS),
        "trunk_rates": np.full(ways, 1e-4).tolist(),
        "chosen": (0.01 * np.arange(18)[::-1].reshape(ways)).tolist(),
        "cosines": np.full((len(HORIZONS), 3), cosines).tolist(),
        "cooled": np.full((*ways, len(HORIZONS), 3), cooled).tolist(),
    }


def test_the_report_has_the_worst_first_and_the_chosen_kind(tmp_path, capsys):
    records = [_record("good", 2.0, 1.0), _record("bad", 1.0, 1.5)]
    records[0]["cooled"][-1][-1][0][0] = None  # diverged
    summary = write_report(records, {}, tmp_path)
    text = (tmp_path / "horizons.md").read_text()
    assert summary["chosen"] == {"fraction": FRACTIONS[-1], "shape": SHAPES[-1]}
    assert text.index("| bad | 1.500 [1.500, 1.500]") < text.index("| good | 0.500")
    assert "0.500 [0.500, inf]" in text
    assert "| the cosines, with other seeds | 1.000" in text
    assert "good (trunk), bad (trunk)" in text
    ratios = Results(records).ratios
    assert ratios[0, -1, -1, 0, 0] == np.inf
    capsys.readouterr()


def test_an_interrupted_run_goes_on_with_the_next_task(tmp_path, monkeypatch, capsys):
    asked = []

    def pretended(function, items, workers):
        for item in items:
            asked.append(item.task)
            yield item, _record(item.task, 1.0, 1.0)

    monkeypatch.setattr(benchmark, "map_unordered", pretended)
    command = ["horizons", "--smoke", "--out", str(tmp_path), "--tasks"]
    main([*command, "logistic"])
    main([*command, "logistic", "quadratic"])
    assert asked == ["logistic", "quadratic"]
    summary = json.loads((tmp_path / "horizons.json").read_text())
    assert [record["task"] for record in summary["records"]] == asked
    (tmp_path / "horizons.jsonl").write_text('{"conditions": {}}\n')
    with pytest.raises(SystemExit, match="protocol"):
        main([*command, "logistic"])
    main([*command, "logistic", "--restart"])
    assert asked[-1] == "logistic"
    capsys.readouterr()


def test_rates_are_chosen_by_some_seeds_and_judged_on_others(monkeypatch):
    """Losses are made up: the validation loss is least at a rate of each one's own."""
    count, asked = len(HORIZONS), []
    best_peak = np.geomspace(1e-3, 1e-1, count)[:, None]
    best_trunk = np.geomspace(1e-3, 1e-1, 18).reshape(3, 6, 1, 1)

    def made_up(distance, seeds):
        asked.append(list(seeds))
        validation = np.repeat(1 + distance[..., None], len(seeds), axis=-1)
        return runs.Losses(validation, validation + np.array(seeds))

    def cosines(task, steps, rates, seeds):
        return made_up(np.log(rates / best_peak) ** 2, seeds)

    def cooled(task, steps, rates, seeds):
        distance = np.log(np.asarray(rates) / best_trunk) ** 2
        return made_up(np.repeat(distance, count, axis=2), seeds)

    monkeypatch.setattr(runs, "cosines", cosines)
    monkeypatch.setattr(runs, "cooled", cooled)
    effort = runs.Effort(tuple(np.geomspace(1e-4, 1.0, 400)), 2, 3)
    record = runs.measure(TASKS["quadratic"], effort)
    np.testing.assert_allclose(record["cosine_rates"], best_peak[:, 0], rtol=0.02)
    np.testing.assert_allclose(record["trunk_rates"], best_trunk[..., 0, 0], rtol=0.02)
    assert asked == [[0, 1], [0, 1], [3000, 3001, 3002], [3000, 3001, 3002]]
    np.testing.assert_allclose(record["chosen"], np.zeros((3, 6)), atol=1e-3)
    expected = np.broadcast_to([3001, 3002, 3003], (3, 6, count, 3))
    np.testing.assert_allclose(record["cooled"], expected, atol=1e-2)
    np.testing.assert_allclose(record["cosines"], expected[0, 0], atol=1e-2)
