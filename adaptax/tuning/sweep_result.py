"""The result of a sweep: the scores and losses of all members and seeds."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import numpy as np

from adaptax._core import checks
from adaptax._core.checks import require
from adaptax.tuning.analysis.bands import Band, band
from adaptax.tuning.results import ToolResult
from adaptax.tuning.storage.named_arrays import flatten_names, leaf_named


@dataclass(frozen=True, repr=False)
class SweepResult(ToolResult):
    """The result of a sweep.

    `hparams` has a leading axis of members (configurations). `losses` is float32
    (members, seeds, steps), NaN after a run diverged. `scores` is (members, seeds),
    lower is better unless they were maximized, infinite if a run diverged. `metrics`
    has arrays like `scores`.
    `about` describes the run: plan, seconds, member-steps, compilations. `states` has
    the arrays of the runs' last states by name, with leading axes (members, seeds), if
    they were kept.
    """

    HEADLINES: ClassVar[tuple[str, ...]] = ("best",)
    KIND: ClassVar[str] = "adaptax sweep"
    AXES: ClassVar[dict[str, str]] = {
        "losses": "members seeds steps",
        "scores": "members seeds",
        "hparams/": "members",
        "metrics/": "members seeds",
        "states/": "members seeds *",
    }
    ROWS: ClassVar[str] = "members seeds"
    PLOT: ClassVar[str] = "sweep"

    hparams: Any
    losses: np.ndarray
    scores: np.ndarray
    metrics: dict[str, np.ndarray]
    about: dict[str, Any]
    states: dict[str, np.ndarray] = field(default_factory=dict, kw_only=True)

    @property
    def ranking(self) -> np.ndarray:
        """The members from best to worst, by mean score; ties by index."""
        return np.argsort(self.minimized(self.scores).mean(axis=1), kind="stable")

    @property
    def best(self) -> Any:
        """The hyperparameters of the best member, or `None` if every one diverged."""
        index = int(self.ranking[0])
        if not np.isfinite(self.scores[index]).all():
            return None
        return jax.tree.map(lambda leaf: leaf[index].item(), self.hparams)

    def curves(self, low: float = 0.25, high: float = 0.75) -> tuple[np.ndarray, ...]:
        """Return the median learning curves over the seeds, with two quantiles.

        Returns:
            low, median and high, each (members, steps); NaN where a seed has diverged.
        """
        for quantile, value in (("low", low), ("high", high)):
            checks.number(quantile, value, at_least=0, at_most=1)
        checks.at_most("low", low, "high", high)
        losses = np.where(np.isfinite(self.losses), self.losses, np.nan)
        return tuple(np.quantile(losses, (low, 0.5, high), axis=1))

    def good_region(
        self, name: str = "learning_rate", within: float = 0.05
    ) -> Band | None:
        """Return the region of a hyperparameter with good mean scores.

        Args:
            name: The path of a hyperparameter > 0. Of several members with the same
                value, the best counts.
            within: The largest difference from the best score, relative to its size.

        Returns:
            `None` if every member diverged.
        """
        checks.number("within", within, at_least=0)
        values = leaf_named(self.hparams, name)
        rates = np.unique(values)
        require(
            bool(rates[0] > 0),
            f"name must be of a hyperparameter > 0, but {name} has {rates[0]}.",
        )
        means = self.minimized(self.scores).mean(axis=1)
        best = [float(means[values == rate].min()) for rate in rates]
        return band(rates.tolist(), best, within)

    def to_records(self) -> list[dict[str, Any]]:
        """Return one flat dict for each member and seed, as for a data frame."""
        rows, seeds = super().to_records(), self.about["seeds"]
        last = self.losses[..., -1].ravel()
        return [
            {**row, "seed": seeds[row["seed"]], "last_loss": float(loss)}
            for row, loss in zip(rows, last, strict=True)
        ]

    def _table(self) -> dict[str, Any]:
        """Return the members, best first, with the spread over seeds."""
        values = flatten_names(self.hparams)
        columns = {name: value[self.ranking] for name, value in values.items()}
        columns["score"] = self.scores.mean(axis=1)[self.ranking]
        if self.scores.shape[1] > 1:
            with np.errstate(invalid="ignore"):
                columns["± over seeds"] = self.scores.std(axis=1, ddof=1)[self.ranking]
        for name, metric in self.metrics.items():
            columns[name] = metric.mean(axis=1)[self.ranking]
        return columns
