"""One of two processes that are started with different runs: `PROCESS PORT FOLDER`.

Prints what each tool raises. The second process has what differs.
"""

import sys
from functools import partial
from pathlib import Path

import jax
from lines import X, line_trial

import adaptax
from adaptax.spaces import log_grid
from adaptax.tuning.storage.checkpoints import Checkpoints

SPACE = {"learning_rate": log_grid(1e-3, 0.1, 4)}
OTHER = {"learning_rate": log_grid(1e-3, 0.2, 4)}
OPTIONS = {"num_steps": 10, "strategy": "map", "progress": False}


def unlike(trial):
    """Change what a trial's data have in one place."""
    (data, held_out) = trial.data
    changed = X.copy()
    changed[40, 2] += 1
    return trial._replace(data=({**data, "x": changed}, held_out))


def broken(hparams):
    """Stand for an optimizer of which one process lacks a file."""
    raise KeyError("missing")


def cases(folder):
    """Return what to call, and what the second process calls instead."""
    sweep = partial(adaptax.sweep, line_trial(), SPACE)
    halving = partial(adaptax.successive_halving, line_trial(), SPACE)
    search = partial(
        adaptax.search_schedule,
        line_trial(),
        knots=2,
        population=4,
        generations=2,
        fresh_seeds=2,
    )
    population = partial(
        adaptax.population_based_training, line_trial(), SPACE, interval=5
    )
    yield "space", sweep, partial(adaptax.sweep, line_trial(), OTHER)
    yield "key", sweep, partial(sweep, key=7)
    yield "data", sweep, partial(adaptax.sweep, unlike(line_trial()), SPACE)
    yield "num_steps", sweep, partial(sweep, num_steps=20)
    yield (
        "program",
        sweep,
        partial(adaptax.sweep, line_trial(adaptax.momentum), SPACE),
    )
    yield "strategy", sweep, partial(sweep, strategy="vmap")
    yield "checkpoint", sweep, partial(sweep, checkpoint=folder)
    yield "failed", sweep, partial(adaptax.sweep, line_trial(broken), SPACE)
    yield "tool", sweep, halving
    yield "halving", halving, partial(halving, eta=2)
    yield (
        "finder",
        partial(adaptax.find_learning_rate, line_trial()),
        partial(adaptax.find_learning_rate, line_trial(), high=1.0),
    )
    yield "population", population, partial(population, fraction=0.5)
    branch = partial(adaptax.branch, line_trial(), SPACE, stage_steps=5)
    yield "branch", partial(branch, stages=2), partial(branch, stages=3)
    yield "search", search, partial(search, baseline=False)


if __name__ == "__main__":
    process, port, folder = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    jax.config.update("jax_num_cpu_devices", 1)
    jax.distributed.initialize(
        f"127.0.0.1:{port}", 2, process, initialization_timeout=600
    )
    mesh = jax.make_mesh((2,), ("members",))
    for name, *calls in cases(folder / "checkpoints"):
        options = {**OPTIONS, "mesh": mesh}
        if name == "branch":
            del options["num_steps"]
        call = calls[process]
        try:
            call(**{**options, **call.keywords})
            print(name, "nothing", flush=True)
        except Exception as error:
            print(name, type(error).__name__, error, flush=True)
    (folder / "file").write_text("")
    try:
        Checkpoints(folder / "file", {})
    except OSError as error:
        print("folder", type(error).__name__, error, flush=True)
    adaptax.sweep(line_trial(), SPACE, mesh=mesh, **OPTIONS)
    print("ended", flush=True)
    jax.distributed.shutdown()
