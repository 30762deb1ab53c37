"""Studies on a local Ray cluster of two workers decide as the tools do, after kills."""

import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import adaptax
from adaptax.tuning import ray as on_ray
from adaptax.tuning import studies

DRIVER = str(Path(__file__).with_name("ray_driver.py"))
SPACE = {"learning_rate": [0.1, 0.2, 0.3, 0.4]}


def started(*arguments, **options):
    command = [sys.executable, DRIVER, *map(str, arguments)]
    local = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    environment = {**os.environ, **local}
    return subprocess.Popen(command, text=True, env=environment, **options)


@pytest.fixture(scope="module")
def address():
    """Start a cluster in a process of its own, which outlives the drivers."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    cluster = started("cluster", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    address = cluster.stdout.readline().strip()
    assert address, "the cluster did not start"
    yield address
    cluster.communicate("")


def in_one_program(case):
    ray_driver = importlib.import_module("ray_driver")
    tool, space, options = ray_driver.ARGUMENTS[case]
    how = {"strategy": "map", "progress": False}
    return getattr(adaptax, tool)(ray_driver.TRIAL, space, **options, **how)


def ended_jobs(folder):
    return len(list(folder.glob("*.outcome")))


@pytest.mark.parametrize("case", ["halving", "population"])
def test_killed_workers_and_a_killed_driver_change_no_decision(case, address, tmp_path):
    (tmp_path / "kill-17").touch()  # a job that continues another
    driver = started(case, address, tmp_path)
    while ended_jobs(tmp_path) < 5:
        assert driver.poll() is None
        time.sleep(0.02)
    driver.kill()
    driver.wait()
    assert not (tmp_path / "result.npz").exists()
    told = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.outcome")}
    assert started(case, address, tmp_path).wait() == 0
    assert not list(tmp_path.glob("kill-*"))
    assert all(path.stat().st_mtime_ns == then for path, then in told.items())
    expected = in_one_program(case)
    found = type(expected).load(tmp_path / "result.npz")
    for name, array in expected.arrays().items():
        np.testing.assert_array_equal(found.arrays()[name], array, err_msg=name)


class InThisProcess:
    """What `play` uses of Ray, one task after another."""

    def __init__(self):
        self.trained, self.cancelled = [], []

    def remote(self, function):
        self.function = function
        return self

    def options(self, **options):
        self.given = options
        return RemoteTask(self)

    def put(self, value):
        return value

    def wait(self, tasks, num_returns):
        return tasks[-1:], tasks[:-1]

    def get(self, value):
        return value() if isinstance(value, Task) else value

    def cancel(self, task):
        self.cancelled.append(task)


class RemoteTask:
    def __init__(self, here):
        self.here = here

    def remote(self, *arguments):
        return Task(self.here, arguments)


class Task:
    def __init__(self, here, arguments):
        self.here, self.arguments = here, arguments

    def __call__(self):
        self.here.trained.append(self.arguments[2].index)
        return self.here.function(*self.arguments)


@pytest.fixture
def here(monkeypatch):
    found = InThisProcess()
    monkeypatch.setitem(sys.modules, "ray", found)
    return found


def halving(**options):
    return studies.successive_halving(SPACE, num_steps=4, eta=2, **options)


def train(job, state):
    """Lose the more, the larger the rate; the state counts the steps."""
    losses = [job.hparams["learning_rate"]] * job.steps
    return losses, None, (state or 0) + job.steps


def test_a_driver_that_failed_goes_on_with_the_outcomes_that_there_are(here, tmp_path):
    def failing(job, state):
        if job.index == 1:
            raise KeyError("a bug")
        return train(job, state)

    with pytest.raises(KeyError, match="a bug") as failed:
        on_ray.play(halving(), failing, folder=tmp_path)
    assert failed.value.__notes__[0].startswith("in job 1, with {'learning_rate': 0.2")
    assert here.trained == [3, 2, 1]
    assert [task.arguments[2].index for task in here.cancelled] == [0]
    study, options = halving(), {"num_gpus": 1}
    found = on_ray.play(study, train, folder=tmp_path, retries=5, options=options)
    assert here.given == {"num_gpus": 1, "max_retries": 5}
    assert here.trained[3:] == [1, 0, 5, 4, 6]
    assert found.best == {"learning_rate": pytest.approx(0.1)}
    assert on_ray.load_state(tmp_path, study.best) == 4
    kept = sorted(path.stem for path in tmp_path.glob("*.state"))
    assert kept == ["job-000004", "job-000006"]


def test_a_folder_belongs_to_one_study(here, tmp_path):
    on_ray.play(halving(), train, folder=tmp_path)
    with pytest.raises(ValueError, match="has another study: seeds"):
        on_ray.play(halving(seeds=2), train, folder=tmp_path)


@pytest.mark.parametrize(
    ("argument", "value", "error"),
    [
        ("study", studies, TypeError),
        ("train", None, TypeError),
        ("folder", None, TypeError),
        ("folder", "", ValueError),
        ("retries", -1, ValueError),
        ("retries", 1.5, TypeError),
        ("options", [1], TypeError),
    ],
)
def test_a_bad_argument_is_refused_by_name(argument, value, error, tmp_path):
    given = {"study": halving(), "train": train, "folder": tmp_path, argument: value}
    with pytest.raises(error, match=f"^{argument} must be"):
        on_ray.play(given.pop("study"), given.pop("train"), **given)


def test_without_ray_the_error_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r'pip install "adaptax\[ray\]"'):
        on_ray.play(halving(), train, folder=tmp_path)
