"""Waves: more runs than fit into the memory, trained some at a time.

All waves have one size, and the last is filled up with dead members, so that one
compilation serves them all.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from adaptax.tuning.checkpoints import Checkpoint
from adaptax.tuning.divergence import mean_of_good
from adaptax.tuning.execution import Population
from adaptax.tuning.records import group, prefixed
from adaptax.tuning.sessions import Session


class Finished(NamedTuple):
    """The `losses` (configurations, seeds, steps) of runs, `scores` and `metrics`.

    Scores and metrics are (configurations, seeds); scores are infinite where a run
    diverged.
    """

    losses: np.ndarray
    scores: np.ndarray
    metrics: dict[str, np.ndarray]

    def of(self, configuration: int) -> "Finished":
        """Give what is of one configuration, without their axis."""
        metrics = {name: found[configuration] for name, found in self.metrics.items()}
        losses, scores = self.losses[configuration], self.scores[configuration]
        return Finished(losses, scores, metrics)


class Waves:
    """Runs and their results so far, on the host.

    `losses` is float32 (runs, steps), `scores` is (runs,), and so is each of `metrics`.
    """

    def __init__(
        self,
        session: Session,
        hparams: Any,
        seeds: np.ndarray,
        num_steps: int,
        checkpoint: Checkpoint | None,
    ):
        """Begin, or go on from a checkpoint.

        Args:
            session: That has a plan.
            hparams: A pytree of arrays with a leading axis of runs.
            seeds: Of shape (runs,).
            num_steps: The steps of each run.
            checkpoint: One that `train` had saved for these runs, or `None`.
        """
        self._session, self._checkpoint = session, checkpoint
        self._hparams, self._seeds = hparams, seeds
        self.losses = np.full((len(seeds), num_steps), np.nan, np.float32)
        self.scores = np.full(len(seeds), np.inf, np.float32)
        self.metrics: dict[str, np.ndarray] = {}
        self._start = 0
        if checkpoint is not None:
            arrays = checkpoint.arrays
            self.losses, self.scores = arrays["losses"].copy(), arrays["scores"].copy()
            self.metrics = group(arrays, "metrics")
            self._start = checkpoint.notes["start"]

    def train(
        self, size: int, best: Callable[[np.ndarray], str], save: Callable[..., None]
    ) -> None:
        """Train all runs to the end.

        Args:
            size: Of a wave.
            best: `best(losses)` says the best so far, of the latest of all runs.
            save: `save(steps, arrays, notes)`, as `Session.save`.
        """
        for start in range(self._start, len(self._seeds), size):
            self._train_wave(start, size, best, save)

    def finished(self, *shape: int) -> Finished:
        """Give the results in the shape (configurations, seeds)."""
        return Finished(
            self.losses.reshape(*shape, -1),
            self.scores.reshape(shape),
            {name: found.reshape(shape) for name, found in self.metrics.items()},
        )

    def _train_wave(self, start, size, best, save) -> None:
        session, (members, num_steps) = self._session, self.losses.shape
        places = np.arange(start, start + size)
        rows, real = np.minimum(places, members - 1), places < members
        hparams = jax.tree.map(lambda leaf: leaf[rows], self._hparams)
        plan = session.planned.plan
        population = Population(session.programs, plan, hparams, self._seeds[rows])
        population.alive = real
        if self._checkpoint is not None and start == self._start:
            arrays = self._checkpoint.arrays
            population.restore(group(arrays, "states"), self._checkpoint.notes["step"])
            population.alive = arrays["alive"].copy()
        alive = int(real.sum())
        for losses in population.run(num_steps - population.step):
            done = slice(population.step - losses.shape[1], population.step)
            self.losses[rows[real], done] = losses[real]
            session.report(alive * losses.shape[1], best(self.losses[:, done]))
            save(
                start * num_steps + alive * population.step,
                partial(self._arrays, population),
                {"start": start, "step": population.step},
            )
        self._judge(rows[real], population, real)

    def _judge(self, rows, population, real) -> None:
        scores, metrics = scores_of(population, self.losses[np.resize(rows, len(real))])
        self.scores[rows] = scores[real]
        for name, values in metrics.items():
            empty = np.full(len(self._seeds), np.nan, np.float32)
            self.metrics.setdefault(name, empty)[rows] = values[real]

    def _arrays(self, population: Population) -> dict[str, np.ndarray]:
        return {
            "losses": self.losses,
            "scores": self.scores,
            "alive": population.alive,
            **prefixed("metrics", self.metrics),
            **prefixed("states", population.saved()),
        }


def scores_of(
    population: Population, losses: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the members' scores, infinite where one diverged, and their metrics.

    A score is the trial's evaluation, or else the mean over the last tenth of `losses`
    (members, steps), which are all that the members had.
    """
    steps = losses.shape[1]
    found, metrics = population.judge()
    if found is None:
        found = mean_of_good(losses, population.good(losses), -(-steps // 10))
    failed = population.ended_badly(steps) | ~np.isfinite(found)
    return np.where(failed, np.inf, found).astype(np.float32), metrics
