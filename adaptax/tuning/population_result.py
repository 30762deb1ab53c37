"""The result of population based training: every interval, and a schedule of it."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np

from adaptax._core import checks
from adaptax._core.checks import require
from adaptax._core.schedule import Schedule
from adaptax.tuning.analysis.found_schedules import piecewise_constant
from adaptax.tuning.results import ToolResult
from adaptax.tuning.storage.named_arrays import leaf_named


@dataclass(frozen=True, repr=False)
class PopulationResult(ToolResult):
    """The result of population based training.

    `hparams` has leading axes (intervals, members). `scores` (intervals, members) are
    those at the end of each interval, lower is better unless they were maximized,
    infinite if a member diverged.
    `parents` (intervals, members) is the member of the previous interval that a member
    was copied from, itself if it was not. `losses` is (members, steps), and `metrics`
    has arrays like `scores`. `interval` is in steps. `state` is the trial's state of
    the best member at the end, `None` after `load`.
    """

    HEADLINES: ClassVar[tuple[str, ...]] = ("best_member",)
    KIND: ClassVar[str] = "adaptax population"
    AXES: ClassVar[dict[str, str]] = {
        "losses": "members steps",
        "scores": "intervals members",
        "parents": "intervals members",
        "interval": "",
        "hparams/": "intervals members",
        "metrics/": "intervals members",
    }
    ROWS: ClassVar[str] = "intervals members"
    PLOT: ClassVar[str] = "population"

    hparams: Any
    losses: np.ndarray
    scores: np.ndarray
    parents: np.ndarray
    metrics: dict[str, np.ndarray]
    interval: int
    about: dict[str, Any]
    state: Any = None

    @property
    def best_member(self) -> int:
        """The member with the best score at the end; the first of equal ones."""
        return int(np.argmin(self.minimized(self.scores[-1])))

    def ancestry(self, member: int | None = None) -> np.ndarray:
        """Return the ancestors of a member: the member that it was in each interval.

        Args:
            member: A member of the last interval; `None` for the best.
        """
        members = self.scores.shape[1]
        if member is None:
            member = self.best_member
        member = checks.length("member", member, at_least=0)
        require(member < members, f"member must be < {members}, got {member}.")
        path = [member]
        for parents in self.parents[:0:-1]:
            path.append(int(parents[path[-1]]))
        return np.array(path[::-1])

    def lived(self, member: int | None = None) -> Any:
        """Return the hyperparameters of a run, with a leading axis of intervals."""
        rows = np.arange(len(self.parents)), self.ancestry(member)
        return jax.tree.map(lambda leaf: leaf[rows], self.hparams)

    def schedule(
        self, name: str = "learning_rate", member: int | None = None
    ) -> Schedule:
        """Return a hyperparameter of a run as a schedule, constant in each interval.

        Args:
            name: The path of the hyperparameter.
            member: See `ancestry`.

        Returns:
            A schedule, which is constant after the last interval.
        """
        return piecewise_constant(leaf_named(self.lived(member), name), self.interval)

    def curve(self, member: int | None = None) -> np.ndarray:
        """Return the losses of a run and its ancestors, of shape (steps,)."""
        path = np.repeat(self.ancestry(member), self.interval)
        steps = self.losses.shape[1]
        return self.losses[path[:steps], np.arange(steps)]


class PopulationDiverged(RuntimeError):
    """Every member has diverged; `result` is that of the earlier intervals."""

    def __init__(self, message: str, result: PopulationResult):
        """Store the result."""
        super().__init__(message)
        self.result = result
