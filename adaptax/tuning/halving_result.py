"""The result of successive halving: a sweep with members that end early."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from adaptax.tuning.rounds import Outcome, origins
from adaptax.tuning.sweep import Configurations
from adaptax.tuning.sweep_result import SweepResult


@dataclass(frozen=True, repr=False)
class HalvingResult(SweepResult):
    """The result of successive halving: a `SweepResult` with members that end early.

    A member's losses are NaN after its last rung, and its scores are those of that
    rung. `rungs` has the steps of each rung, and `reached` (members,) the number of
    rungs that each member reached.
    """

    HEADLINES = ("best", "cost")
    KIND = "adaptax halving"
    AXES: ClassVar[dict[str, str]] = {
        **SweepResult.AXES,
        "rungs": "rungs",
        "reached": "members",
    }
    PLOT = "halving"

    rungs: np.ndarray
    reached: np.ndarray

    @property
    def ranking(self) -> np.ndarray:
        """The members from best to worst: by rungs, then by score, then by index.

        Members that diverged, on any rung, are last.
        """
        means = self.minimized(self.scores).mean(axis=1)
        return np.lexsort((means, -self.reached, ~np.isfinite(means)))

    @classmethod
    def of_history(
        cls,
        runs: Configurations,
        history: list[Outcome],
        rungs: np.ndarray,
        about: dict[str, Any],
    ) -> Self:
        """Make a result from the rungs; the scores of a run are those of its last."""
        count, (_, seeds) = len(runs.run_seeds), runs.shape
        losses = np.full((count, int(rungs[-1])), np.nan, np.float32)
        scores, reached = np.empty(count, np.float32), np.zeros(count, np.int32)
        metrics = {name: np.empty(count, np.float32) for name in history[0].metrics}
        begun = 0
        for rows, outcome in zip(origins(history), history, strict=True):
            end = begun + outcome.losses.shape[1]
            losses[rows, begun:end], scores[rows] = outcome.losses, outcome.scores
            reached[rows] += 1
            for name, found in outcome.metrics.items():
                metrics[name][rows] = found
            begun = end
        return cls(
            runs.hparams,
            losses.reshape(*runs.shape, -1),
            scores.reshape(runs.shape),
            {name: found.reshape(runs.shape) for name, found in metrics.items()},
            about,
            rungs,
            reached[::seeds],
        )

    @property
    def cost(self) -> float:
        """The steps of all members, as a fraction of those of the full sweep."""
        steps = self.rungs[self.reached - 1].sum()
        return float(steps / (len(self.reached) * self.rungs[-1]))
