"""Run a tool to its end, with checkpoints: `python killed_tool.py TOOL FOLDER`.

Writes FOLDER/result.npz. The tests kill it now and then, and start it again. With
`slowly` as a third argument it waits before each call of the training program, so that
on any machine there is time to kill it.
"""

import signal
import sys
import time
from pathlib import Path

import numpy as np
from lines import X, Y, line_trial

import adaptax
from adaptax.spaces import log_grid, log_uniform
from adaptax.tuning.running.execution import Population

OPTIONS = {"strategy": "map", "progress": False}
SPACE = {"learning_rate": log_grid(1e-4, 0.1, 9)}


def sweep(checkpoint):
    return adaptax.sweep(
        line_trial(), SPACE, num_steps=4_000, checkpoint=checkpoint, **OPTIONS
    )


def endless(checkpoint):
    """Train one member for longer than any test waits."""
    space = {"learning_rate": [1e-3]}
    return adaptax.sweep(
        line_trial(), space, num_steps=20_000_000, checkpoint=checkpoint, **OPTIONS
    )


class Rows:
    """Batches of the line, for ever, from an iterator whose state can be saved."""

    def __iter__(self):
        return RowsIterator()


class RowsIterator:
    step = 0

    def __iter__(self):
        return self

    def __next__(self):
        rows = (8 * self.step + np.arange(8)) % len(X)
        self.step += 1
        return {"x": X[rows] + np.float32(self.step % 7) / 7, "y": Y[rows]}

    def get_state(self):
        return {"step": self.step}

    def set_state(self, state):
        self.step = state["step"]


def halving(checkpoint):
    """Train on a stream."""
    trial = line_trial(data=adaptax.stream(Rows()), batch_size=None)
    return adaptax.successive_halving(
        trial, SPACE, num_steps=10_000, checkpoint=checkpoint, **OPTIONS
    )


def population(checkpoint):
    return adaptax.population_based_training(
        line_trial(),
        {"learning_rate": log_uniform(1e-4, 0.1)},
        num_steps=4_000,
        interval=130,
        members=9,
        checkpoint=checkpoint,
        **OPTIONS,
    )


def wait_before_each_call():
    advance = Population.advance

    def wait_and_advance(self, steps):
        time.sleep(0.1)
        return advance(self, steps)

    Population.advance = wait_and_advance


if __name__ == "__main__":
    # Shells let what they start in the background ignore Ctrl-C, and it is inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tool, folder = sys.argv[1], Path(sys.argv[2])
    if sys.argv[3:] == ["slowly"]:
        wait_before_each_call()
    globals()[tool](folder / "checkpoints").save(folder / "result.npz")
