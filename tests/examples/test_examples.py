"""Every example runs as a person would run it, in a process of its own.

Only what ends at once, with a message, runs in that of the tests.
"""

import argparse
import csv
import json
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import adaptax
from adaptax import catalog

EXAMPLES = Path(__file__).parents[2] / "examples"
MNIST = EXAMPLES / "01_mnist.py"
LOOPS = EXAMPLES / "02_any_training_loop.py"
WRONG_RATES = EXAMPLES / "03_rates_that_follow_the_loss.py"
FINDER = EXAMPLES / "04_find_a_rate.py"
SWEEP = EXAMPLES / "05_sweep.py"
POPULATION = EXAMPLES / "06_population.py"
SEARCH = EXAMPLES / "07_search_a_schedule.py"
DEVICES = EXAMPLES / "08_many_devices.py"
NOTHING_TUNED = EXAMPLES / "09_nothing_tuned.py"
LIVE_RUN = EXAMPLES / "10_live_run.py"


def environment(hasty=False):
    """Return the environment; only the hasty compile without optimizing."""
    hidden = () if hasty else {"XLA_FLAGS"}
    return {name: value for name, value in os.environ.items() if name not in hidden}


def run(script, *arguments, check=True, hasty=False):
    return subprocess.run(
        [sys.executable, script, *map(str, arguments)],
        check=check,
        capture_output=True,
        text=True,
        timeout=1200,  # a hang, on any machine
        env=environment(hasty),
    )


def refusal(script, capsys, *arguments):
    """Return how an example ends that refuses its arguments: the code, the message."""
    main = runpy.run_path(str(script))["main"]
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    code, printed = ended.value.code, capsys.readouterr().err
    return (1, printed + code) if isinstance(code, str) else (code, printed)


def results_of(folder):
    return json.loads((folder / "results.json").read_text())


def history_of(folder):
    with (folder / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(MNIST, "--smoke", "--out", folder).stdout


def test_the_mnist_example_ends_with_loss_and_accuracy(whole_run):
    folder, output = whole_run
    loss, accuracy = output.strip().splitlines()[-2:]
    results = results_of(folder)
    assert loss == f"Loss: {results['loss']:.4f}"
    assert accuracy == f"Accuracy: {results['accuracy']:.4f}"
    assert results["accuracy"] > 0.3
    assert results["parameters"] == 50_186
    assert {"jax", "optax", "adaptax"} <= set(results["versions"])
    assert (folder / "training.png").stat().st_size > 10_000


def test_the_mnist_example_records_every_step(whole_run):
    folder, _ = whole_run
    rows = history_of(folder)
    assert [int(row["step"]) for row in rows] == list(range(2 * 512 // 32))
    rates = [float(row["learning_rate"]) for row in rows]
    assert max(rates) > rates[0] == 0
    assert all(float(row["loss"]) > 0 for row in rows)


KILLED = """
import os, runpy, signal, sys
import orbax.checkpoint as ocp

wait = ocp.CheckpointManager.wait_until_finished

def wait_and_die(manager):
    wait(manager)
    if manager.latest_step() == STEP:
        os.kill(os.getpid(), signal.SIGKILL)

ocp.CheckpointManager.wait_until_finished = wait_and_die
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
# From outside, a kill may come when the run has ended.


def run_and_kill(step, script, folder):
    """Kill an example when it has saved a checkpoint with this number."""
    code = KILLED.replace("STEP", str(step))
    return run("-c", code, script, "--smoke", "--out", folder, check=False)


def test_a_killed_mnist_run_resumes_to_the_same_parameters(whole_run, tmp_path):
    folder, _ = whole_run
    killed = run_and_kill(1, MNIST, tmp_path)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "results.json").exists()
    output = run(MNIST, "--smoke", "--out", tmp_path, "--resume").stdout
    assert "Resumed after epoch 1" in output
    whole, resumed = results_of(folder), results_of(tmp_path)
    assert resumed["parameters_sha256"] == whole["parameters_sha256"]
    assert history_of(tmp_path) == history_of(folder)


@pytest.mark.parametrize("name", ["adam", "prodigy", "cocob"])
def test_the_mnist_example_takes_optimizers_with_and_without_a_direction(name):
    usual = catalog.find(name, "optimizer").usual_rate
    options = argparse.Namespace(
        optimizer=name, schedule="linear", learning_rate=usual / 2
    )
    optimizer = runpy.run_path(str(MNIST))["make_optimizer"](options, 10, 5)
    params = {"w": jnp.ones(3)}
    _, state = optimizer.update(params, optimizer.init(params), params, value=1.0)
    # Prodigy's d₀ c, with the first step's correction c = √(1 − β₂) / (1 − β₁).
    inferred = 1e-6 * 0.001**0.5 / 0.1 if name == "prodigy" else 1
    np.testing.assert_allclose(
        adaptax.learning_rate(state), usual / 2 * inferred, rtol=1e-6
    )


def test_resuming_with_other_options_is_refused(whole_run):
    folder, _ = whole_run
    failed = run(
        MNIST, "--smoke", "--out", folder, "--resume", "--seed", 1, check=False
    )
    assert failed.returncode == 1
    assert "made with other options" in failed.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--optimizer", "adma"],
            "no optimizer 'adma'. There are: adabelief, adagrad,",
        ),
        (["--schedule", "cosin"], "no schedule 'cosin'. There are:"),
        (["--learning-rate", "-1"], "learning_rate must be >= 0, got -1.0"),
        (["--learning-rate", "nan"], "learning_rate must be >= 0, got nan"),
        (["--epochs", "0"], "--epochs: must be a whole number >= 1, got '0'"),
        (["--seed", "-1"], "--seed: must be a whole number >= 0, got '-1'"),
        (["--batch-size", "100000"], "--batch-size 100000 is more than"),
        (["--data", "nowhere"], "nowhere does not exist"),
    ],
)
def test_the_mnist_example_says_what_is_wrong(arguments, message, tmp_path, capsys):
    code, told = refusal(MNIST, capsys, *arguments, "--out", tmp_path)
    assert code
    assert message in told


def test_every_training_loop_ends_with_equal_parameters():
    output = run(LOOPS, "--smoke").stdout
    differences = [line.rpartition(" ")[2] for line in output.strip().splitlines()]
    assert len(differences) == 3
    assert all(float(difference) < 1e-6 for difference in differences)


def test_rates_that_are_wrong_end_in_a_table_and_a_figure(tmp_path):
    arguments = ("--smoke", "--only", "reject_increase", "--out", tmp_path)
    output = run(WRONG_RATES, *arguments).stdout
    results = results_of(tmp_path)
    names = ["nothing (Adam)", "reject_increase", "nothing (gradient descent)"]
    assert list(results["accuracies"]) == names
    for name, cases in results["accuracies"].items():
        assert list(cases) == ["well tuned", "too large", "too small"]
        shares = [f"{share:.1%}" for (share,) in cases.values()]
        (line,) = (x for x in output.splitlines() if x.startswith(f"{name}  "))
        assert line.removeprefix(name).split() == shares
    assert (tmp_path / "rates.png").stat().st_size > 10_000


def test_a_controller_that_is_not_there_is_named(tmp_path, capsys):
    code, told = refusal(WRONG_RATES, capsys, "--only", "bold", "--out", tmp_path)
    assert code == 2
    assert "there is no 'bold'. There are: nothing (Adam)," in told


def test_the_sweep_tells_the_range_of_good_rates_and_what_halving_saved(tmp_path):
    output = run(SWEEP, "--smoke", "--out", tmp_path, hasty=True).stdout
    found = results_of(tmp_path)
    assert found["good_from"] <= found["best_rate"] * 1.001
    assert found["good_to"] >= found["best_rate"] * 0.999
    assert found["halving_cost"] < 1
    assert f"Best rate: {found['best_rate']:.2g}" in output
    swept = adaptax.SweepResult.load(tmp_path / "sweep.npz")
    assert swept.losses.shape == (3, 2, 3)
    assert (tmp_path / "sweep.png").stat().st_size > 10_000


def test_the_population_is_compared_with_the_best_constant_rate(tmp_path):
    output = run(POPULATION, "--smoke", "--out", tmp_path, hasty=True).stdout
    fresh = results_of(tmp_path)["fresh_seeds"]
    assert set(fresh) == {"schedule", "best constant"}
    for name, found in fresh.items():
        assert f"{name:14} loss {found['loss']:.4f}" in output
    population = adaptax.PopulationResult.load(tmp_path / "population.npz")
    assert population.scores.shape == (20, 4)
    assert (tmp_path / "population.png").stat().st_size > 10_000


def test_many_devices_and_two_processes_find_what_one_device_finds(tmp_path):
    output = run(DEVICES, "--smoke", "--out", tmp_path, hasty=True).stdout
    found = results_of(tmp_path)
    assert found["processes_agree_to_the_bit"]
    assert max(found["largest_relative_difference"].values()) < 1e-5
    assert len(set(found["best_rate"].values())) == 1
    assert "The two processes agree: True." in output
    assert (tmp_path / "devices.png").stat().st_size > 10_000


def test_the_suggestions_of_the_finder_are_trained_beside_a_sweep(tmp_path):
    output = run(FINDER, "--smoke", "--out", tmp_path, hasty=True).stdout
    results = results_of(tmp_path)
    found = adaptax.FinderResult.load(tmp_path / "finder.npz")
    assert results["status"] == found.status
    assert found.message in output
    trained = {name for name, rate in found.suggestions.items() if rate is not None}
    assert set(results["accuracy_at_suggestions"]) == trained
    assert f"trains to {results['best_accuracy']:.2%}." in output
    for name in ("finder.png", "proof.png"):
        assert (tmp_path / name).stat().st_size > 10_000


def test_a_searched_schedule_is_compared_with_a_cosine(tmp_path):
    output = run(SEARCH, "--smoke", "--out", tmp_path, hasty=True).stdout
    results = results_of(tmp_path)
    saved = adaptax.SearchResult.load(tmp_path / "search.npz")
    assert results["searched"] == saved.score
    assert results["compilations"] == 1
    np.testing.assert_allclose(
        results["gain"]["difference"],
        results["cosine"] - results["searched"],
        rtol=1e-4,
    )
    searched, cosine, gain = output.strip().splitlines()[-3:]
    assert searched.startswith(f"searched: loss {results['searched']:.4f}, accuracy")
    assert cosine.startswith(f"cosine: loss {results['cosine']:.4f}, accuracy")
    assert gain.startswith(f"gain: {results['gain']['difference']:.4f} ±")
    assert (tmp_path / "search.png").stat().st_size > 10_000


def test_one_call_trains_three_networks(tmp_path):
    output = run(NOTHING_TUNED, "--smoke", "--out", tmp_path, hasty=True).stdout
    for network in ("convolution", "autoencoder", "transformer"):
        assert output.count(network) == 2
    assert (tmp_path / "nothing_tuned.png").stat().st_size > 0


def test_a_live_run_that_is_killed_in_its_cool_down_ends_with_the_same_bits(tmp_path):
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    output = run(LIVE_RUN, "--smoke", "--out", whole).stdout
    assert "step 10: stretch_run, 60 steps; the run ends at step 60." in output
    assert "step 35: cool_down, 7 steps; the run ends at step 42." in output
    killed = run_and_kill(40, LIVE_RUN, folder)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = run(LIVE_RUN, "--smoke", "--out", folder, "--resume")
    assert "Resumed at step 40." in resumed.stdout
    assert results_of(folder) == results_of(whole)
    rates = results_of(whole)["rates"]
    assert len(rates) == 42
    assert rates[34] == rates[35] > rates[36] > rates[-1] > 0
    assert (folder / "live_run.png").stat().st_size > 10_000


def test_a_live_run_carries_out_the_orders_of_a_file(capsys, tmp_path):
    example = runpy.run_path(str(LIVE_RUN))
    training = example["Training"](0, planned=600)
    run = example["Run"](training.start(1e-3), 1e-3, end=600, step=100)
    order_file = tmp_path / "order.json"
    for text, message in {
        '{"cool_down": 50}': "the run ends at step 150.",
        '{"cool_down": 0}': "num_steps must be a whole number >= 1, got 0",
        '{"stop": 1}': "there is no 'stop', only stretch_run and cool_down",
        "cool down": "order.json (Expecting value",
        "[1]": "is not carried out",
    }.items():
        order_file.write_text(text)
        example["carry_out"](example["written_order"](order_file), run)
        assert message in capsys.readouterr().out
    order_file.unlink()
    assert example["written_order"](order_file) is None
    assert run.given[0] == (100, "cool_down")


def test_a_rate_that_is_no_rate_is_refused(tmp_path, capsys):
    arguments = ("--learning-rate", -1, "--out", tmp_path)
    code, told = refusal(LIVE_RUN, capsys, *arguments)
    assert code == 2
    assert "--learning-rate: peak must be >= 0, got -1.0" in told


WRITING = sorted({*EXAMPLES.glob("[0-9]*.py")} - {LOOPS})


@pytest.mark.parametrize("example", WRITING, ids=lambda example: example.stem)
def test_a_folder_that_cannot_be_made_is_refused_before_training(
    example, tmp_path, capsys
):
    (tmp_path / "taken").write_text("")
    code, told = refusal(example, capsys, "--out", tmp_path / "taken" / "in")
    assert code == 2
    assert "argument --out: cannot be written to: " in told


def test_no_example_is_left_out():
    assert set(EXAMPLES.glob("[0-9]*.py")) == {
        MNIST,
        LOOPS,
        WRONG_RATES,
        FINDER,
        SWEEP,
        POPULATION,
        SEARCH,
        DEVICES,
        NOTHING_TUNED,
        LIVE_RUN,
    }
