"""One of two processes with four devices each: `one_of_two.py PROCESS PORT FOLDER`.

The second one is killed in the end.
"""

import sys
from pathlib import Path

import jax
from lines import line_trial
from losing_one import lose_one

import adaptax
from adaptax.spaces import log_grid, log_uniform

OPTIONS = {"num_steps": 40, "strategy": "map", "progress": False}


def halve(mesh):
    """Halve nine rates with two seeds."""
    space = {"learning_rate": log_grid(1e-4, 1.0, 9)}
    return adaptax.successive_halving(
        line_trial(), space, seeds=2, mesh=mesh, **OPTIONS
    )


def evolve(mesh, checkpoint):
    """Evolve ten members, saving on the way."""
    return adaptax.population_based_training(
        line_trial(),
        {"learning_rate": log_uniform(1e-4, 0.3)},
        interval=10,
        members=10,
        mesh=mesh,
        checkpoint=checkpoint,
        **OPTIONS,
    )


if __name__ == "__main__":
    process, port, folder = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    jax.config.update("jax_num_cpu_devices", 4)
    jax.distributed.initialize(
        f"127.0.0.1:{port}", 2, process, initialization_timeout=600
    )
    both = jax.make_mesh((8,), ("members",))
    halve(both).save(folder / f"halving-{process}.npz")
    evolve(both, folder / "checkpoints").save(folder / f"population-{process}.npz")
    lose_one(process, folder / "lost")
