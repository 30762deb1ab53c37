"""Successive halving: many begin, the best of each rung go on.

    rung j:  train to r ηʲ steps,  keep the best 1/η of those that are left

Every rung costs about as much, so that n configurations cost about log n / n of a full
sweep times n. All rungs run in the compiled programs of one population: survivors are
put together, and the others cost nothing any more.

Source: Jamieson & Talwalkar (2016), "Non-stochastic Best Arm Identification and
Hyperparameter Optimization", AISTATS; Li et al. (2020), "A System for Massively
Parallel Hyperparameter Tuning" (arXiv 1810.05934), Algorithm 1, whose rungs these are.
All members reach a rung together, so nothing is promoted too early.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, ClassVar

import jax
import numpy as np
from jax.sharding import Mesh

from adaptax import checks, spaces
from adaptax.checks import require
from adaptax.tuning.acting import differing
from adaptax.tuning.checkpoints import Checkpoint
from adaptax.tuning.execution import Population
from adaptax.tuning.planning import Strategy
from adaptax.tuning.records import group, prefixed
from adaptax.tuning.sessions import Session, as_seeds, fit_together, stream
from adaptax.tuning.sweep import SweepResult, best_so_far, require_room_for_runs
from adaptax.tuning.trials import Trial, require_trial
from adaptax.tuning.waves import scores_of


@dataclass(frozen=True, repr=False)
class HalvingResult(SweepResult):
    """What successive halving found: a `SweepResult` in which members end early.

    The losses of a member are NaN after its last rung, and its scores those of that
    rung. `rungs` has the steps of each rung, and `reached` (members,) the number of
    rungs that each member was trained for.
    """

    HEADLINES = ("best", "cost")
    KIND = "adaptax halving"
    AXES: ClassVar[dict[str, str]] = {
        **SweepResult.AXES,
        "rungs": "rungs",
        "reached": "members",
    }
    EXTRA = ("rungs", "reached")

    rungs: np.ndarray
    reached: np.ndarray

    @property
    def ranking(self) -> np.ndarray:
        """The members from best to worst: first by rungs, then by score, then index.

        Those that have diverged, on whatever rung, are the last.
        """
        means = self.scores.mean(axis=1)
        return np.lexsort((means, -self.reached, ~np.isfinite(means)))

    @property
    def cost(self) -> float:
        """The steps that all members took, as a share of those of the full sweep."""
        steps = self.rungs[self.reached - 1].sum()
        return float(steps / (len(self.reached) * self.rungs[-1]))


def successive_halving(
    trial: Trial,
    space: dict[str, Any],
    *,
    num_steps: int,
    seeds: int | Sequence[int] = 1,
    samples: int | None = None,
    eta: int = 3,
    first_rung: int | None = None,
    key: Any = 0,
    strategy: Strategy = "auto",
    mesh: Mesh | None = None,
    checkpoint: str | PathLike[str] | None = None,
    progress: bool = True,
) -> HalvingResult:
    """Train all configurations a little, and the best of them further and further.

    At each rung a configuration is judged by the mean over its seeds: of the evaluation
    if the trial has one, otherwise of its losses in the last tenth of the steps so far.
    One that has diverged does not go on.

    Args:
        trial: What to train.
        space: As for `sweep`, as are the arguments that are not listed here.
        num_steps: Steps of the last rung.
        seeds: See `sweep`; all seeds of a configuration go on, or none.
        samples: See `sweep`.
        eta: η >= 2: of η configurations one goes on.
        first_rung: Steps r of the first rung; by default such that the last rung is
            left with less than η configurations.
        key: See `sweep`.
        strategy: See `sweep`.
        mesh: See `sweep`.
        checkpoint: See `sweep`.
        progress: See `sweep`.

    Raises:
        ValueError: If an argument is out of its range, a hyperparameter that is varied
            does not act, all members do not fit into the memory together, or the folder
            has a checkpoint of other arguments.
        KeyError: If the trial reads a hyperparameter that is not there.
        OSError: If the folder cannot be written, or another process is using it.
    """
    require_trial(trial)
    num_steps = checks.length("num_steps", num_steps)
    eta = checks.length("eta", eta, at_least=2)
    seed_list = as_seeds(seeds)
    count = require_room_for_runs(space, samples, len(seed_list), num_steps)
    hparams = spaces.members(space, samples, stream(key, "space"))
    rungs = rungs_to(num_steps, count, eta, first_rung)
    members = count * len(seed_list)
    each = jax.tree.map(lambda leaf: np.repeat(leaf, len(seed_list), axis=0), hparams)
    session = Session(
        "successive halving",
        trial,
        each,
        key=key,
        mesh=mesh,
        checkpoint=checkpoint,
        strategy=strategy,
        progress=progress,
        total=len(seed_list) * total_cost(rungs, count, eta),
        about={"hparams": hparams, "seeds": seed_list, "rungs": rungs, "eta": eta},
    )
    with session:
        if done := session.finished(HalvingResult):
            return done
        session.require_acting(hparams, differing(hparams))
        all_seeds = np.tile(seed_list, count)
        planned = session.plan(each, all_seeds, int(rungs[0]))
        fit_together("configurations and seeds", members, planned.wave)
        population = Population(session.programs, planned.plan, each, all_seeds)
        run = _Run(session, population, len(seed_list), rungs)
        while run.rung < len(rungs):
            run.climb(eta)
        about = session.about(seeds=seed_list.tolist(), num_steps=num_steps)
        shape = (count, len(seed_list))
        result = HalvingResult(
            hparams,
            run.losses.reshape(*shape, num_steps),
            run.scores.reshape(shape),
            {name: metric.reshape(shape) for name, metric in run.metrics.items()},
            about,
            rungs,
            run.reached,
        )
        return session.finish(result)


def rungs_to(
    num_steps: int, members: int, eta: int, first_rung: int | None
) -> np.ndarray:
    """Give the steps of the rungs, ascending; each is η times the one before."""
    if first_rung is None:
        levels = 0
        while eta ** (levels + 1) <= members and num_steps // eta ** (levels + 1) >= 1:
            levels += 1
    else:
        first_rung = checks.length("first_rung", first_rung)
        require(
            first_rung <= num_steps,
            f"first_rung must be <= num_steps, got {first_rung} > {num_steps}.",
        )
        levels = 0
        while first_rung * eta ** (levels + 1) <= num_steps:
            levels += 1
    return np.array([num_steps // eta**j for j in range(levels, -1, -1)], np.int32)


def total_cost(rungs: np.ndarray, members: int, eta: int) -> int:
    """Count the steps of all members if none diverges."""
    cost, before = 0, 0
    for rung in rungs.tolist():
        cost += members * (rung - before)
        members, before = max(1, members // eta), rung
    return cost


class _Run:
    """The results so far, on the host, and the population between two rungs."""

    def __init__(
        self, session: Session, population: Population, seeds: int, rungs: np.ndarray
    ):
        self.session, self.population = session, population
        self.seeds, self.rungs, self.rung = seeds, rungs, 0
        members = population.members
        self.losses = np.full((members, int(rungs[-1])), np.nan, np.float32)
        self.scores = np.full(members, np.inf, np.float32)
        self.racing = np.ones(members // seeds, bool)
        self.reached = np.zeros(members // seeds, np.int32)
        self.metrics: dict[str, np.ndarray] = {}
        if session.resumed is not None:
            self._resume(session.resumed)

    def climb(self, eta: int) -> None:
        """Train to the next rung, judge, and let the best go on."""
        population, racing = self.population, np.repeat(self.racing, self.seeds)
        for losses in population.run(int(self.rungs[self.rung]) - population.step):
            done = slice(population.step - losses.shape[1], population.step)
            self.losses[racing, done] = losses[racing]
            best = best_so_far(self.losses[:, done], population.hparams)
            self.session.report(int(racing.sum()) * losses.shape[1], best)
            self.session.save(population.step, self._arrays, self._notes())
        found, metrics = scores_of(population, self.losses[:, : population.step])
        self.scores[racing] = found[racing]
        for name, values in metrics.items():
            kept = self.metrics.setdefault(name, np.full_like(values, np.nan))
            kept[racing] = values[racing]
        self.rung += 1
        self.reached[self.racing] = self.rung
        self._drop(eta)

    def _drop(self, eta: int) -> None:
        """Let the best 1/η of those that reached this rung go on, if they can."""
        means = self.scores.reshape(-1, self.seeds).mean(axis=1)
        means = np.where(self.racing, means, np.inf)
        keep = max(1, int(self.racing.sum()) // eta)
        best = np.argsort(means, kind="stable")[:keep]
        self.racing = np.isin(np.arange(len(means)), best) & np.isfinite(means)
        if not self.racing.any():
            self.rung = len(self.rungs)
        elif self.rung < len(self.rungs):
            self._gather_survivors()

    def _gather_survivors(self) -> None:
        self.population.alive = np.repeat(self.racing, self.seeds)
        self.population.pack()

    def _notes(self) -> dict[str, Any]:
        return {"rung": self.rung, "step": self.population.step}

    def _arrays(self) -> dict[str, np.ndarray]:
        return {
            "losses": self.losses,
            "scores": self.scores,
            "racing": self.racing,
            "reached": self.reached,
            "alive": self.population.alive,
            **prefixed("metrics", self.metrics),
            **prefixed("states", self.population.saved()),
        }

    def _resume(self, checkpoint: Checkpoint) -> None:
        arrays, self.rung = checkpoint.arrays, checkpoint.notes["rung"]
        self.losses, self.scores = arrays["losses"].copy(), arrays["scores"].copy()
        self.racing, self.reached = arrays["racing"].copy(), arrays["reached"].copy()
        self.metrics = group(arrays, "metrics")
        self.population.restore(group(arrays, "states"), checkpoint.notes["step"])
        if self.rung > 0:
            self._gather_survivors()
        self.population.alive = arrays["alive"].copy()
        self.session.report(int(np.isfinite(self.losses).sum()))
