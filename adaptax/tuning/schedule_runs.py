"""Runs along schedules: tables of rates, each trained for the whole run, in waves.

However many runs a stage has, they are trained in waves of one size, the last of which
is filled up with dead members: one compilation serves all stages.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from adaptax.tuning.execution import Population
from adaptax.tuning.inner_schedules import InnerSchedules, require_steady
from adaptax.tuning.records import group, prefixed
from adaptax.tuning.scheduled_trials import scheduled
from adaptax.tuning.sessions import Session
from adaptax.tuning.trials import Trial
from adaptax.tuning.waves import Finished, Waves


def following_tables(trial: Trial, name: str) -> Trial:
    """Let one hyperparameter follow a table.

    The hyperparameters are then a dict of the `constants` and the `rates` (steps,).
    """

    def hparams_at(hparams, step):
        return {**hparams["constants"], name: hparams["rates"][step]}

    return scheduled(trial, hparams_at)


def along(constants: Any, rates: np.ndarray) -> dict[str, Any]:
    """Return the hyperparameters of runs along tables.

    Args:
        constants: Arrays of shape (1,).
        rates: (runs, steps).
    """
    constants = jax.tree.map(
        lambda leaf: np.repeat(leaf, len(rates), axis=0), constants
    )
    return {"constants": constants, "rates": rates}


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
    ):
        """Choose a plan.

        Args:
            session: Of a trial that follows tables.
            constants: Arrays of shape (1,).
            rate: For trying the ways to run.
            members: How many to train together, if they fit into the memory.
            num_steps: The steps of each run.
        """
        self.session, self._constants, self._num_steps = session, constants, num_steps
        rates = np.full((members, num_steps), rate, np.float32)
        seeds = np.zeros(members, np.uint32)
        planned = session.plan(along(constants, rates), seeds, num_steps)
        self._wave = planned.wave
        self._scores: dict[str, np.ndarray] = {}
        self.also: Callable[[], dict[str, np.ndarray]] = dict
        if session.resumed is not None:
            self._scores = group(session.resumed.arrays, "finished")
            session.report(session.resumed.step)

    def require_steady(
        self, schedules: InnerSchedules | None, name: str, rate: float
    ) -> None:
        """Raise if schedules inside the trial change the rate; see there."""
        if schedules is None or not any(schedules.is_count):
            return
        rates = np.full((self._wave, self._num_steps), rate, np.float32)
        plan, seeds = self.session.planned.plan, np.zeros(self._wave, np.uint32)
        hparams = along(self._constants, rates)
        members = Population(self.session.programs, plan, hparams, seeds)
        require_steady(members, schedules, name, self._num_steps - 1, place=".state")

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
        every_seed = np.tile(seeds, len(rates))
        every_rate = np.repeat(rates, len(seeds), axis=0)
        checkpoint = self.session.resumed
        if checkpoint is not None and checkpoint.notes["stage"] != stage:
            checkpoint = None
        hparams = along(self._constants, every_rate)
        runs = Waves(self.session, hparams, every_seed, self._num_steps, checkpoint)
        runs.train(self._wave, lambda _: best, partial(self._save, stage))
        return runs.finished(len(rates), len(seeds))

    def _save(
        self,
        stage: str,
        steps: int,
        arrays: Callable[[], dict[str, np.ndarray]],
        notes: dict[str, Any],
    ) -> None:
        def all_arrays():
            finished = prefixed("finished", self._scores)
            return {**arrays(), **finished, **prefixed("also", self.also())}

        before = sum(scores.size for scores in self._scores.values())
        total = before * self._num_steps + steps
        self.session.save(total, all_arrays, {"stage": stage, **notes})
