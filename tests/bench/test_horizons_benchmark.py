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

STEPS, RATES, SEEDS = 20, (1e-2, 1e-1), (3, 4)


@pytest.fixture(scope="module")
def cooled():
    return runs.cooled(TASKS["quadratic"], STEPS, RATES, SEEDS)


def test_the_shares_of_steps_are_those_of_the_lengths():
    horizons, cooling = runs.lengths(400)
    assert horizons.tolist() == [200, 300, 400, 600, 800]
    assert cooling.tolist() == [[20, 30, 40, 60, 80], [40, 60, 80, 120, 160]]
    trunks_and_branches = [720 + 230, 640 + 460]
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


def test_the_kinds_of_cool_downs_differ(cooled):
    assert cooled.test.shape == (2, 6, len(HORIZONS), len(RATES), len(SEEDS))
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
        "chosen": (0.01 * np.arange(12)[::-1].reshape(ways)).tolist(),
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


def test_a_task_is_measured_by_the_rates_that_it_chose():
    record = runs.measure(TASKS["quadratic"], runs.SMOKE)
    rates = np.array(runs.SMOKE.rates)
    assert set(record["cosine_rates"]) <= set(rates)
    distinct = np.unique(record["trunk_rates"])
    again = runs.cooled(
        TASKS["quadratic"], record["steps"], distinct, (2000, 2001)
    ).test
    place = np.searchsorted(distinct, record["trunk_rates"])
    for fraction, shape in ((0, 0), (1, 5)):
        np.testing.assert_allclose(
            record["cooled"][fraction][shape],
            again[fraction, shape, :, place[fraction, shape]],
            rtol=1e-4,
        )
