"""Two processes that are asked to end, go on, and lose one."""

import os
import signal
import time

import jax
import numpy as np
from jax.sharding import Mesh
from lines import line_trial

import adaptax
from adaptax.spaces import log_grid
from adaptax.tuning.running.execution import Population
from adaptax.tuning.running.pacing import Pace
from adaptax.tuning.running.termination import c_handler
from adaptax.tuning.storage.checkpoints import Checkpoints

SIGNALS = {2: signal.SIGTERM, 5: signal.SIGKILL}
"""What the second process gets, by its calls of the training program in both runs."""

ENDED, SAVED = 3 * 32, 3 * 64  # the steps of two calls, and of four


def sweep(mesh, checkpoint):
    """Train three members for 96 steps: in two processes, six calls."""
    return adaptax.sweep(
        line_trial(),
        {"learning_rate": log_grid(1e-3, 0.1, 3)},
        num_steps=96,
        strategy="map",
        mesh=mesh,
        checkpoint=checkpoint,
        progress=False,
    )


def wait_for_a_checkpoint(folder, steps):
    """Wait until the other process, which waits for this one, has saved."""
    deadline = time.monotonic() + 600
    while not list(folder.glob(f"{steps:012d}-*.npz")):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def lose_one(process, checkpoint):
    """Print how two runs in a folder end in a process, and end the process."""
    # One device each: with four, JAX sometimes waits for the dead, for its 100 s.
    devices = jax.devices()
    mesh = Mesh(np.array([devices[0], devices[-1]]), ("members",))
    advance, calls = Population.advance, []

    def advance_with_signals(self, steps):
        calls.append(steps)
        if process == 1 and len(calls) in SIGNALS:
            if SIGNALS[len(calls)] == signal.SIGKILL:
                wait_for_a_checkpoint(checkpoint, SAVED)
            os.kill(os.getpid(), SIGNALS[len(calls)])
        return advance(self, steps)

    Population.advance = advance_with_signals
    Checkpoints.due = lambda _: process == 1  # what the first process says counts
    Pace.due = lambda _: process == 0
    handler = c_handler()  # of JAX
    try:
        sweep(mesh, checkpoint)
    except SystemExit as error:
        print("ended", error.code, len(calls), handler == c_handler() != 0, flush=True)
    try:
        sweep(mesh, checkpoint)
    except Exception as error:
        print("lost", *error.__notes__, flush=True)
        os._exit(0)  # without waiting until JAX notices, and aborts it
