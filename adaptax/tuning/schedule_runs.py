"""Runs along schedules: tables of rates, each trained for the whole run, in waves.

However many runs a stage has, they are trained in waves of one size, the last of which
is filled up with dead members: one compilation serves all stages.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from adaptax.tuning.checkpoints import Checkpoint
from adaptax.tuning.execution import Population
from adaptax.tuning.planning import Strategy
from adaptax.tuning.records import group, prefixed
from adaptax.tuning.scheduled_trials import scheduled
from adaptax.tuning.sessions import Session
from adaptax.tuning.sweep import default_scores
from adaptax.tuning.trials import Trial


class Finished(NamedTuple):
    """The `losses` (schedules, seeds, steps) of runs, their `scores`, their `metrics`.

    Scores and metrics are (schedules, seeds); scores are infinite where a run diverged.
    """

    losses: np.ndarray
    scores: np.ndarray
    metrics: dict[str, np.ndarray]

    def of(self, schedule: int) -> "Finished":
        """Give what is of one schedule, without the axis of schedules."""
        metrics = {name: found[schedule] for name, found in self.metrics.items()}
        return Finished(self.losses[schedule], self.scores[schedule], metrics)


def following_tables(trial: Trial, name: str) -> Trial:
    """Let one hyperparameter follow a table.

    The hyperparameters are then a dict of the `constants` and the `rates` (steps,).
    """

    def hparams_at(hparams, step):
        return {**hparams["constants"], name: hparams["rates"][step]}

    return scheduled(trial, hparams_at)


class ScheduleRuns:
    """Trains schedules, stage after stage, and goes on where a checkpoint left off.

    `also` gives what else a checkpoint is to keep, arrays by name.
    """

    def __init__(
        self,
        session: Session,
        constants: Any,
        rate: float,
        members: int,
        num_steps: int,
        strategy: Strategy,
    ):
        """Choose a plan.

        Args:
            session: Of a trial that follows tables.
            constants: Arrays of shape (1,).
            rate: For trying the ways to run.
            members: How many to train together, if they fit into the memory.
            num_steps: The steps of each run.
            strategy: See `make_plan`.
        """
        self.session, self._constants, self._num_steps = session, constants, num_steps
        rates = np.full((members, num_steps), rate, np.float32)
        seeds = np.zeros(members, np.uint32)
        planned = session.plan(strategy, self._hparams(rates), seeds, num_steps)
        self._wave = planned.wave
        self._scores: dict[str, np.ndarray] = {}
        self.also: Callable[[], dict[str, np.ndarray]] = dict
        if session.resumed is not None:
            self._scores = group(session.resumed.arrays, "finished")
            session.report(session.resumed.step)

    def score(
        self, stage: str, rates: np.ndarray, seeds: np.ndarray, best: str = ""
    ) -> np.ndarray:
        """Train a stage, unless a checkpoint has its scores, and give them."""
        if stage not in self._scores:
            self._scores[stage] = self.train(stage, rates, seeds, best).scores
        return self._scores[stage]

    def train(
        self, stage: str, rates: np.ndarray, seeds: np.ndarray, best: str = ""
    ) -> Finished:
        """Train every schedule with every seed.

        Args:
            stage: A name that no other stage has.
            rates: (schedules, steps).
            seeds: (seeds,).
            best: What to show of the best so far.
        """
        runs = _Stage(stage, rates, seeds, self.session.resumed)
        for start in range(runs.start, runs.count, self._wave):
            self._train_wave(runs, start, best)
        shape = len(rates), len(seeds)
        metrics = {name: found.reshape(shape) for name, found in runs.metrics.items()}
        losses = runs.losses.reshape(*shape, -1)
        return Finished(losses, runs.scores.reshape(shape), metrics)

    def _train_wave(self, runs: "_Stage", start: int, best: str) -> None:
        places = np.arange(start, start + self._wave)
        rows, real = np.minimum(places, runs.count - 1), places < runs.count
        hparams, plan = self._hparams(runs.rates[rows]), self.session.planned.plan
        population = Population(self.session.programs, plan, hparams, runs.seeds[rows])
        population.alive = real
        if runs.checkpoint is not None and start == runs.start:
            _, arrays, notes = runs.checkpoint
            population.restore(group(arrays, "states"), notes["step"])
            population.alive = arrays["alive"].copy()
        for losses in population.run(self._num_steps - population.step):
            done = slice(population.step - losses.shape[1], population.step)
            runs.losses[rows[real], done] = losses[real]
            self.session.report(int(real.sum()) * losses.shape[1], best)
            self._save(runs, start, population, int(real.sum()))
        runs.judge(rows[real], population, real)

    def _hparams(self, rates: np.ndarray) -> Any:
        constants = jax.tree.map(
            lambda leaf: np.repeat(leaf, len(rates), axis=0), self._constants
        )
        return {"constants": constants, "rates": rates}

    def _save(
        self, runs: "_Stage", start: int, population: Population, real: int
    ) -> None:
        def arrays():
            return {
                "alive": population.alive,
                **runs.arrays(),
                **prefixed("finished", self._scores),
                **prefixed("also", self.also()),
                **prefixed("states", population.saved()),
            }

        before = start + sum(scores.size for scores in self._scores.values())
        total = before * self._num_steps + real * population.step
        notes = {"stage": runs.name, "start": start, "step": population.step}
        self.session.save(total, arrays, notes)


class _Stage:
    """The runs of a stage, on the host: each schedule with each seed is a row.

    `start` is the first row of the wave to begin with; `checkpoint` is the one that the
    stage goes on from, or `None`.
    """

    def __init__(
        self,
        name: str,
        rates: np.ndarray,
        seeds: np.ndarray,
        checkpoint: Checkpoint | None,
    ):
        self.name, self.count, self.start = name, len(rates) * len(seeds), 0
        self.rates = np.repeat(rates, len(seeds), axis=0)
        self.seeds = np.tile(seeds, len(rates))
        self.losses = np.full(self.rates.shape, np.nan, np.float32)
        self.scores = np.full(self.count, np.inf, np.float32)
        self.metrics: dict[str, np.ndarray] = {}
        mine = checkpoint is not None and checkpoint.notes["stage"] == name
        self.checkpoint = checkpoint if mine else None
        if self.checkpoint is not None:
            arrays = self.checkpoint.arrays
            self.losses, self.scores = arrays["losses"].copy(), arrays["scores"].copy()
            self.metrics = group(arrays, "metrics")
            self.start = self.checkpoint.notes["start"]

    def judge(self, rows: np.ndarray, population: Population, real: np.ndarray) -> None:
        """Enter the scores and metrics of a wave that is trained."""
        found, metrics = population.judge()
        if found is None:
            found = default_scores(self.losses[rows])
        else:
            found = np.where(np.isfinite(found), found, np.inf)[real]
        self.scores[rows] = found
        for name, values in metrics.items():
            empty = np.full(self.count, np.nan, np.float32)
            self.metrics.setdefault(name, empty)[rows] = values[real]

    def arrays(self) -> dict[str, np.ndarray]:
        """Give what a checkpoint keeps of the stage."""
        kept = {"losses": self.losses, "scores": self.scores}
        return {**kept, **prefixed("metrics", self.metrics)}
