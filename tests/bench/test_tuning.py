"""The tuning benchmark from the command line: smoke, resuming after a kill, refusal."""

import argparse
import json
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adaptax.bench.__main__ import main
from adaptax.bench.shared.tasks import TASKS
from adaptax.bench.tuning import benchmark as tuning
from adaptax.bench.tuning.methods import METHODS, Method
from adaptax.bench.tuning.populations import EVERY, compile_population
from adaptax.bench.tuning.results import TUNED, evaluate
from adaptax.bench.tuning.workers import map_unordered

OPTIONS = ["tuning", "--smoke", "--tasks", "quadratic", "--methods", "dog"]
UNITS = ["quadratic/adamw", "quadratic/adamw_cosine", "quadratic/dog"]


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
    units = [line["unit"] for line in lines(out / "tuning.jsonl") if "unit" in line]
    assert sorted(units) == UNITS


def test_every_run_has_one_line(smoke):
    out, _ = smoke
    runs = [line for line in lines(out / "tuning.jsonl") if "losses" in line]
    names = [(run["method"], run["variant"], run["rate"], run["seed"]) for run in runs]
    assert len(set(names)) == len(names) == 2 * (2 * 2 * 13 + 13 + 1)
    by_default = [run for run in runs if run["method"] == "dog" and run["rate"] == 1]
    assert {len(run["losses"]) for run in by_default} == {4 * 40 // EVERY}


def test_the_report_is_complete(smoke):
    out, _ = smoke
    summary = json.loads((out / "tuning.json").read_text())
    assert {"versions", "machine", "seeds", "protocol"} <= summary.keys()
    rows = {row["method"]: row for row in summary["methods"]}
    assert rows.keys() == {TUNED, "adamw", "adamw_cosine", "dog"}
    assert rows[TUNED]["reached"] == rows[TUNED]["problems"] == 2
    report = (out / "tuning.md").read_text()
    assert all(f"| {name} |" in report for name in rows)
    for name in ("profiles", "bands", "curves"):
        assert (out / f"tuning-{name}.png").stat().st_size > 0


def test_another_protocols_journal_is_refused_and_kept(smoke):
    out, _ = smoke
    before = (out / "tuning.jsonl").read_bytes()
    with pytest.raises(SystemExit, match="seeds = 2 there and 3 here"):
        main([*OPTIONS, "--seeds", "3", "--out", str(out)])
    assert (out / "tuning.jsonl").read_bytes() == before


def test_a_finished_run_only_reports_again(smoke, capsys):
    out, _ = smoke
    before = (out / "tuning.jsonl").read_bytes()
    main([*OPTIONS, "--out", str(out)])
    assert (out / "tuning.jsonl").read_bytes() == before
    assert TUNED in capsys.readouterr().out


@pytest.fixture(scope="module")
def population():
    task = TASKS["quadratic"]
    problem = task.problem()
    method = METHODS["adamw"]
    return compile_population(task, method, problem, 20, 2, 3, 20), problem


def test_a_member_does_not_depend_on_those_beside_it(population):
    compiled, problem = population
    together = compiled.train(problem, [0.1, 1.0, 0.3], 2, 20)
    alone = compiled.train(problem, [1.0], 2, 20)
    np.testing.assert_array_equal(together[1], alone[0])
    assert not np.array_equal(alone[0, 0], alone[0, 1])


def test_a_shorter_run_is_the_beginning_of_a_longer_one(population):
    compiled, problem = population
    longer = compiled.train(problem, [0.1], 2, 20)
    np.testing.assert_array_equal(
        compiled.train(problem, [0.1], 2, 10), longer[..., :1]
    )


def test_a_diverged_run_is_nan_and_no_error(population):
    compiled, problem = population
    losses = compiled.train(problem, [1e30], 2, 20)
    assert np.isnan(losses).all()


def test_every_method_is_made_of_a_traced_rate():
    params = {"w": jax.ShapeDtypeStruct((3,), np.float32)}
    for method in METHODS.values():
        jax.eval_shape(
            lambda rate, params, method=method: method.make(rate, 40).init(params),
            jax.ShapeDtypeStruct((), np.float32),
            params,
        )
        assert method.centre is None or method.rate in method.sweep()


@pytest.mark.parametrize("name", ["dog_average", "adam_dog", "cdat", "prodigy"])
def test_the_factor_of_an_inferred_rate_has_its_effect(name):
    method, params, gradient = METHODS[name], jnp.ones(3), jnp.array([1.0, -2.0, 3.0])

    def move(rate):
        optimizer = optax.with_extra_args_support(method.make(rate, 40))
        state = optimizer.init(params)
        updates, _ = optimizer.update(
            gradient, state, params, grad_fn=lambda point: gradient * point
        )
        return updates

    with jax.numpy_dtype_promotion("standard"):
        whole, half = jax.jit(move)(1.0), jax.jit(move)(0.5)
    np.testing.assert_allclose(half, whole / 2, rtol=1e-5)
    assert np.abs(whole).max() > 0


def test_tuned_adamw_has_the_time_and_the_target_of_its_best_configuration():
    def record(method, rate, seed, losses):
        place = {"task": "mlp", "variant": "plain", "method": method}
        return place | {"rate": rate, "seed": seed, "losses": losses}

    timings = [
        {"task": "mlp", "variant": "plain", "method": name, "step_seconds": seconds}
        for name, seconds in {"adamw": 2.0, "adamw_cosine": 3.0, "dog": 0.5}.items()
    ]
    records = [
        record("adamw", 1e-3, 0, [5.0, 4.0, 3.0, 0.5]),  # 0.5 after the horizon
        record("adamw_cosine", 1e-3, 0, [5.0, 4.0]),
        record("adamw_cosine", 1e-2, 0, [5.0, 2.0]),
        record("dog", 1.0, 0, [None, 3.0, 3.0, 2.0]),
        *timings,
    ]
    results = evaluate(records, {"mlp": 2 * EVERY})
    target = results.targets["mlp", "plain"]
    assert target == (2.0, "adamw_cosine", 1e-2)
    assert results.steps == {
        TUNED: [20],
        "adamw": [40],
        "adamw_cosine": [np.inf],
        "dog": [40],
    }
    assert results.seconds[TUNED] == [60]
    assert results.seconds["dog"] == [20]
    assert results.methods()[0] == TUNED
    assert results.scores(results.steps)["dog"] == pytest.approx(2 / 3)


def _end(item):
    raise SystemExit(3)


def test_a_worker_that_ends_is_an_error_that_names_its_work():
    with pytest.raises(RuntimeError, match="a worker ended while it had 'item'"):
        list(map_unordered(_end, ["item"], 2))


def test_a_method_is_swept_over_six_decades():
    rates = Method("x", lambda rate, steps: None, 0.01, 0.01).sweep()
    assert len(rates) == 13
    assert rates[-1] / rates[0] == pytest.approx(1e6)


@pytest.mark.parametrize("option", ["--seeds", "--workers"])
@pytest.mark.parametrize("count", ["0", "-1", "1.5", "many"])
def test_an_option_that_counts_nothing_is_refused(option, count, capsys):
    parser = argparse.ArgumentParser()
    tuning.add_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args([f"{option}={count}"])
    assert f"{option}: must be a whole number >= 1" in capsys.readouterr().err
