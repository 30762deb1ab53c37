"""The result of branching: the run, and the branches that were tried."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np

from adaptax._core.schedule import Schedule
from adaptax.tuning.analysis.found_schedules import piecewise_constant
from adaptax.tuning.results import ToolResult
from adaptax.tuning.storage.named_arrays import leaf_named

_STAGE_BYTES = 1000  # the dicts and arrays of a stage


@dataclass(frozen=True, repr=False)
class BranchResult(ToolResult):
    """The result of branching.

    `hparams` has leading axes (stages, branches). `explored` has the losses of the
    branches, (stages, branches, explore steps), and `forecasts` (stages, branches)
    their forecasts (their evaluations, if these were maximized), infinite if a branch
    diverged. `chosen` (stages,) is the branch
    that continued, and `losses` (steps,) are those of the whole run. `stage_steps` is
    the length of a stage. `state` is the trial's state at the end, `None` after `load`.
    """

    HEADLINES: ClassVar[tuple[str, ...]] = ("cost",)
    KIND: ClassVar[str] = "adaptax branches"
    AXES: ClassVar[dict[str, str]] = {
        "explored": "stages branches explored",
        "forecasts": "stages branches",
        "chosen": "stages",
        "losses": "steps",
        "stage_steps": "",
        "hparams/": "stages branches",
    }
    ROWS: ClassVar[str] = "stages branches"
    PLOT: ClassVar[str] = "branches"

    hparams: Any
    explored: np.ndarray
    forecasts: np.ndarray
    chosen: np.ndarray
    losses: np.ndarray
    stage_steps: int
    about: dict[str, Any]
    state: Any = None

    @property
    def best(self) -> Any:
        """The hyperparameters of the run, with a leading axis of stages."""
        rows = np.arange(len(self.chosen)), self.chosen
        return jax.tree.map(lambda leaf: leaf[rows], self.hparams)

    @property
    def cost(self) -> float:
        """The steps of all branches, as a multiple of those of the run alone."""
        stages, branches, explore_steps = self.explored.shape
        extra = stages * (branches - 1) * explore_steps
        return 1 + extra / len(self.losses)

    def schedule(self, name: str = "learning_rate") -> Schedule:
        """Return a hyperparameter of the run as a schedule, constant for each stage."""
        return piecewise_constant(leaf_named(self.best, name), self.stage_steps)
