"""The tuning benchmark: its rule, its results, and the command line, killed once."""

import argparse
import json
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from adaptax.bench.__main__ import main
from adaptax.bench.shared.workers import map_unordered
from adaptax.bench.tuning import benchmark as tuning
from adaptax.bench.tuning.cases import CASES, EFFORTS, Effort
from adaptax.bench.tuning.methods import FACTORS, RECIPES, TUNED
from adaptax.bench.tuning.protocol import LOOKS
from adaptax.bench.tuning.results import TUNED_ADAMW, evaluate
from adaptax.bench.tuning.runs import (
    CHOOSING,
    SCORING,
    TARGET,
    curve_trial,
    measure,
    rounds,
)
from adaptax.tuning import Outcome

CASE = "quadratic, plain"
OPTIONS = ["tuning", "--smoke", "--cases", CASE, "--recipes", "dog"]
UNITS = [f"{CASE}/{name}" for name in ("adamw", "adamw_cosine", "adamw_linear", "dog")]
TINY = Effort(rates=3, finer=True, choosing=2, target=2, scoring=2)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def finished(path):
    whole = path.read_bytes() if path.exists() else b""
    return whole.count(b'{"unit": ')


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Run the smoke test, killed when its first unit was written, and run again."""
    out = tmp_path_factory.mktemp("tuning")
    command = [sys.executable, "-m", "adaptax.bench", *OPTIONS, "--workers", "1"]
    journal = out / "tuning.jsonl"
    with (out / "log").open("w") as log:
        process = subprocess.Popen([*command, "--out", out], stdout=log, stderr=log)
        limit = time.monotonic() + 1200
        while finished(journal) == 0 and process.poll() is None:
            assert time.monotonic() < limit, "no unit was finished"
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    killed = journal.read_bytes()
    main([*OPTIONS, "--workers", "1", "--out", str(out)])
    return out, killed


def test_a_killed_run_goes_on_after_its_last_whole_unit(smoke):
    out, killed = smoke
    whole = (out / "tuning.jsonl").read_bytes()
    assert killed.startswith(b'{"conditions": ')
    kept = killed[: killed.rindex(b'{"unit": ')]
    assert whole.startswith(kept)
    found = lines(out / "tuning.jsonl")
    assert sorted(line["unit"] for line in found if "unit" in line) == UNITS
    assert sum("ended" in line for line in found) == len(UNITS)


def test_every_run_has_one_line(smoke):
    out, _ = smoke
    runs = [line for line in lines(out / "tuning.jsonl") if "losses" in line]
    names = [(r["recipe"], r["rate"], r["seed"], len(r["losses"])) for r in runs]
    # Two rates with one seed, two target and two scoring runs, which go on unless
    # they have a horizon; dog has the last four.
    assert len(set(names)) == len(names) == (2 + 4 + 2) + 2 * (2 + 4) + (2 + 2)
    assert {looks for _, _, _, looks in names} == {LOOKS, 4 * LOOKS}


def test_the_report_is_complete(smoke):
    out, _ = smoke
    summary = json.loads((out / "tuning.json").read_text())
    assert {"versions", "machine", "protocol"} <= summary.keys()
    rows = {row["method"]: row for row in summary["methods"]}
    assert rows.keys() == {TUNED_ADAMW, "adamw", "adamw_cosine", "adamw_linear", "dog"}
    assert rows[TUNED_ADAMW]["ratio"] == {"value": 1, "low": 1, "high": 1}
    assert rows[TUNED_ADAMW]["score"] == 1
    report = (out / "tuning.md").read_text()
    assert all(f"| {name} |" in report for name in (*rows, CASE))
    for name in ("ratios", "curves"):
        assert (out / f"tuning-{name}.png").stat().st_size > 0


def test_another_protocols_journal_is_refused_and_kept(smoke):
    out, _ = smoke
    before = (out / "tuning.jsonl").read_bytes()
    whole = [option for option in OPTIONS if option != "--smoke"]
    with pytest.raises(SystemExit, match="smoke = True there and False here"):
        main([*whole, "--out", str(out)])
    assert (out / "tuning.jsonl").read_bytes() == before


def test_a_finished_run_only_reports_again(smoke, capsys):
    out, _ = smoke
    before = (out / "tuning.jsonl").read_bytes()
    main([*OPTIONS, "--out", str(out)])
    assert (out / "tuning.jsonl").read_bytes() == before
    assert TUNED_ADAMW in capsys.readouterr().out


def played(rule, loss_of):
    """Play a rule on losses that depend on the rate, without training."""
    history, all_rounds = [], []
    while (now := rule(history)) is not None:
        rates = now.hparams["rate"]
        losses = np.repeat(loss_of(rates)[:, None], now.steps, axis=1)
        history.append(
            Outcome(now.parents, now.hparams, losses, losses[:, -1], {"test": rates})
        )
        all_rounds.append(now)
    return all_rounds


def test_a_swept_recipe_chooses_its_rate_before_it_meets_the_seeds_that_judge():
    recipe = TUNED[0]
    rule = rounds(recipe, TINY, 400, grows=True)
    coarse, fine, fresh, longer = played(rule, lambda rates: abs(np.log(rates / 0.02)))
    np.testing.assert_allclose(coarse.hparams["rate"][::2], recipe.grid(3), rtol=1e-6)
    best = 0.01 * 10**0.5
    beside = [best * 10**-0.25, best * 10**0.25]
    np.testing.assert_allclose(fine.hparams["rate"][::2], beside, rtol=1e-3)
    np.testing.assert_allclose(fresh.hparams["rate"], best * 10**-0.25, rtol=1e-3)
    for choosing in (coarse, fine):
        assert set(choosing.seeds) == {CHOOSING, CHOOSING + 1}
    assert fresh.seeds.tolist() == [TARGET, TARGET + 1, SCORING, SCORING + 1]
    assert longer.parents.tolist() == [2, 3]
    assert (fresh.steps, longer.steps) == (LOOKS, 3 * LOOKS)


def test_a_recipe_that_is_not_swept_only_has_the_runs_that_judge():
    (only,) = played(
        rounds(RECIPES["adamw_cosine_1e-3"], TINY, 400, grows=False), np.array
    )
    assert only.seeds.tolist() == [SCORING, SCORING + 1]
    np.testing.assert_allclose(only.hparams["rate"], 1e-3)
    assert set(only.hparams["steps"]) == {400}


@pytest.fixture(scope="module")
def measured():
    return measure(CASES[CASE], RECIPES["adamw_average_1e-3"], TINY, 2)


def test_a_run_to_four_horizons_begins_like_the_one_to_the_first(measured):
    short, long = measured[:2], measured[2:]
    for before, after in zip(short, long, strict=True):
        assert before["seed"] == after["seed"]
        assert len(after["losses"]) == 4 * LOOKS
        assert after["losses"][:LOOKS] == before["losses"]
        assert after["test"] != before["test"]
    assert short[0]["losses"] != short[1]["losses"]


def test_losses_are_those_of_the_average_and_the_test_is_of_other_examples(measured):
    (plain, *_) = measure(CASES[CASE], RECIPES["adamw_1e-3"], TINY, 2)
    assert plain["losses"][0] != measured[0]["losses"][0]
    trial = curve_trial(CASES["logistic, plain"], RECIPES["adamw_1e-3"], 2)
    hparams = {"rate": 1e-3, "steps": 40}
    state, losses = trial.advance(hparams, trial.init(hparams, jax.random.key(0)), 1)
    _, metrics = trial.evaluate(hparams, state)
    assert abs(losses[-1] - metrics["test"]) > 1e-4


def test_every_recipe_is_made_of_a_traced_rate_and_horizon():
    params = {"w": jax.ShapeDtypeStruct((3, 2), np.float32)}
    for recipe in RECIPES.values():
        jax.eval_shape(
            lambda rate, steps, params, recipe=recipe: recipe.make(rate, steps).init(
                params
            ),
            jax.ShapeDtypeStruct((), np.float32),
            jax.ShapeDtypeStruct((), np.int32),
            params,
        )


def test_multiples_of_the_inferred_rate_are_what_their_names_say():
    for recipe in FACTORS:
        assert recipe.name == f"self_tuning × {recipe.rate:g}"


def test_a_grid_is_in_steps_of_half_a_decade():
    rates = TUNED[0].grid(13)
    assert (rates[0], rates[6], rates[-1]) == (1e-5, 1e-2, 10.0)
    np.testing.assert_allclose(np.diff(np.log10(rates)), 0.5, atol=1e-2)


def test_no_seed_is_used_for_two_purposes():
    for effort in EFFORTS.values():
        assert CHOOSING + effort.choosing <= TARGET
        assert TARGET + effort.target <= SCORING


def record(recipe, rate, seed, loss, test=None, looks=LOOKS):
    losses = [loss] * looks
    return {
        "case": CASE,
        "recipe": recipe,
        "rate": rate,
        "seed": seed,
        "losses": losses,
        "test": loss if test is None else test,
    }


def test_tuned_adamw_is_chosen_aimed_and_judged_by_different_runs():
    records = [
        record("adamw", 1e-3, CHOOSING, 3.0),
        record("adamw", 1e-2, CHOOSING, 2.0),
        record("adamw", 1e-2, TARGET, 2.5),
        record("adamw", 1e-2, SCORING, 4.0, test=5.0),
        record("adamw_cosine", 1e-2, CHOOSING, 1.0),
        record("adamw_cosine", 1e-2, TARGET, 1.5),
        record("adamw_cosine", 1e-2, SCORING, 1.4, test=2.0),
        record("dog", 1.0, SCORING, 1.6, test=1.0),
        record("dog", 1.0, SCORING, 1.5, looks=4 * LOOKS),
    ]
    (result,) = evaluate(records)
    assert (result.tuned, result.rate, result.target) == ("adamw_cosine", 1e-2, 1.5)
    assert result.ratios[TUNED_ADAMW] == [1]
    assert result.ratios["adamw"] == [2.5]
    assert result.ratios["dog"] == [0.5]
    assert result.budgets["adamw"] == [np.inf]
    assert result.budgets["adamw_cosine"] == [1 / LOOKS]
    assert result.budgets["dog"] == [1 / LOOKS]  # of the longer run
    assert result.cost == 2.0  # one of three configurations


def test_a_run_that_went_on_is_judged_at_the_longer_horizon_too():
    long = {"case": "vae, 4 T"}
    records = [
        record("adamw", 1e-2, seed, 2.0) | long for seed in (CHOOSING, TARGET, SCORING)
    ]
    records += [
        record("adamw", 1e-2, seed, 4.0) | {"case": "vae"}
        for seed in (CHOOSING, TARGET, SCORING)
    ]
    falling = record("dog", 1.0, SCORING, 3.0, looks=4 * LOOKS) | {"case": "vae"}
    falling["losses"] = [4.0] * 2 * LOOKS + [1.0] * 2 * LOOKS
    records += [record("dog", 1.0, SCORING, 3.0) | {"case": "vae"}, falling]
    short, longer = evaluate(records)
    assert (short.name, longer.name) == ("vae", "vae, 4 T")
    assert short.ratios["dog"] == [0.75]
    assert short.budgets["dog"] == [1 / LOOKS]
    assert longer.ratios["dog"] == [1.5]
    assert longer.budgets["dog"] == [(LOOKS / 2 + 2) / LOOKS]


def test_every_case_has_looks_at_whole_steps():
    for case in CASES.values():
        assert case.every * LOOKS == case.steps, case.name


def _end(item):
    raise SystemExit(3)


def test_a_worker_that_ends_is_an_error_that_names_its_work():
    with pytest.raises(RuntimeError, match="a worker ended while it had 'item'"):
        list(map_unordered(_end, ["item"], 2))


@pytest.mark.parametrize("count", ["0", "-1", "1.5", "many"])
def test_an_option_that_counts_nothing_is_refused(count, capsys):
    parser = argparse.ArgumentParser()
    tuning.add_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args([f"--workers={count}"])
    assert "--workers: must be a whole number >= 1" in capsys.readouterr().err
