"""Processes of the tests on Ray: a local cluster, and drivers that connect to it.

python ray_driver.py cluster                    prints its address, ends with stdin
python ray_driver.py halving ADDRESS FOLDER     saves FOLDER/result.npz
"""

import os
import signal
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import ray

import adaptax
from adaptax.spaces import log_grid, log_uniform
from adaptax.tuning import Trainer, studies
from adaptax.tuning import ray as on_ray

KEY = 3
ARGUMENTS = {
    "halving": (
        "successive_halving",
        {"learning_rate": log_grid(0.01, 3.0, 16)},
        {"num_steps": 16, "eta": 4, "key": KEY},
    ),
    "population": (
        "population_based_training",
        {"learning_rate": log_uniform(0.01, 1.5)},
        {"num_steps": 15, "interval": 5, "members": 8, "key": KEY},
    ),
}
"""A tool, its space and its options, for the study and in one program."""


def begin(hparams, key):
    return jax.random.normal(key, (3,))


def advance(hparams, x, num_steps):
    def step(x, _):
        return x - hparams["learning_rate"] * x, 0.5 * jnp.sum(x**2)

    return jax.lax.scan(step, x, length=num_steps)


TRIAL = adaptax.Trial(begin, advance)


class DyingTrainer(Trainer):
    """A trainer whose worker is killed once in each job that `folder` asks for."""

    folder = Path()

    def __call__(self, job, state=None):
        order = self.folder / f"kill-{job.index}"
        if order.exists():
            order.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(job, state)

    def __getstate__(self):
        return {**super().__getstate__(), "folder": self.folder}

    def __setstate__(self, kept):
        super().__setstate__(kept)
        self.folder = kept["folder"]


def cluster(attempts=8):
    """Start a cluster; Ray gives up after 30 seconds, too few on a busy machine."""
    try:
        found = ray.init(
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=80 * 2**20,
            log_to_driver=False,
        )
    except Exception:
        ray.shutdown()
        if attempts == 1:
            raise
        return cluster(attempts - 1)
    print(found.address_info["gcs_address"], flush=True)
    sys.stdin.read()
    return ray.shutdown()


def drive(case, address, folder):
    ray.init(address=address, log_to_driver=False)
    tool, space, options = ARGUMENTS[case]
    train = DyingTrainer(TRIAL, key=KEY)
    train.folder = Path(folder)
    study = getattr(studies, tool)(space, **options)
    found = on_ray.play(study, train, folder=folder)
    if case == "population":
        assert found.state.shape == (3,)
    found.save(Path(folder) / "result.npz")


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    cluster() if what == "cluster" else drive(what, *arguments)
