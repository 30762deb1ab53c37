"""The result of a search for a schedule: the winner, and all that was tried."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np

from adaptax._core.schedule import Schedule
from adaptax.tuning.analysis.cosine_baselines import CosineBaseline
from adaptax.tuning.analysis.found_schedules import log_linear
from adaptax.tuning.results import Result, ToolResult


class Gain(NamedTuple):
    """The mean difference of two scores over seeds, and its standard error."""

    difference: float
    standard_error: float


@dataclass(frozen=True, repr=False)
class SearchResult(ToolResult):
    """The result of a search for a schedule.

    `log_rates` (knots,) are the natural logarithms of the winner's rates. `losses`
    (fresh seeds, steps), `scores` (fresh seeds,), lower is better unless they were
    maximized, infinite if a run diverged, and `metrics`, like `scores`, are those of
    runs that were not used to choose it.
    `candidates` (generations, population, knots) are the log-rates that were tried, and
    `history` (generations, population) their mean scores over the seeds of their
    generation. `baseline` is the best cosine, or `None`. `about` describes the search.
    """

    HEADLINES: ClassVar[tuple[str, ...]] = ("score",)
    KIND: ClassVar[str] = "adaptax schedule search"
    AXES: ClassVar[dict[str, str]] = {
        "log_rates": "knots",
        "losses": "seeds steps",
        "scores": "seeds",
        "history": "generations candidates",
        "candidates": "generations candidates knots",
        "metrics/": "seeds",
    }
    NESTED: ClassVar[dict[str, type[Result]]] = {"baseline": CosineBaseline}
    PLOT: ClassVar[str] = "search"

    log_rates: np.ndarray
    losses: np.ndarray
    scores: np.ndarray
    metrics: dict[str, np.ndarray]
    history: np.ndarray
    candidates: np.ndarray
    baseline: CosineBaseline | None
    about: dict[str, Any]

    @property
    def score(self) -> float:
        """The mean score over the fresh seeds; infinite if one diverged."""
        return float(self.scores.mean())

    @property
    def schedule(self) -> Schedule:
        """The winner as a schedule."""
        return log_linear(jnp.asarray(self.log_rates), self.losses.shape[1])

    @property
    def knot_steps(self) -> np.ndarray:
        """The steps of the knots, (knots,), rounded."""
        last = self.losses.shape[1] - 1
        return np.rint(np.linspace(0, last, len(self.log_rates))).astype(int)

    @property
    def gain(self) -> Gain | None:
        """How much better the winner's score is than the baseline's, seed by seed.

        If it is above 0, the winner is better; less than two standard errors may be
        chance. `None` without a baseline.
        """
        if self.baseline is None:
            return None
        with np.errstate(invalid="ignore"):
            differences = self.minimized(self.baseline.scores)
            differences = differences - self.minimized(self.scores)
            error = differences.std(ddof=1) / math.sqrt(len(differences))
        return Gain(float(differences.mean()), float(error))

    def to_records(self) -> list[dict[str, Any]]:
        """Return one flat dict for each candidate, as for a data frame."""
        rates = np.exp(self.candidates)
        return [
            {
                "generation": generation,
                "candidate": candidate,
                "score": float(self.history[generation, candidate]),
                **{
                    f"rate at {step}": float(rate)
                    for step, rate in zip(
                        self.knot_steps, rates[generation, candidate], strict=True
                    )
                },
            }
            for generation, candidate in np.ndindex(*self.history.shape)
        ]

    def _table(self) -> dict[str, Any]:
        """Return the generations, with the rates of the best."""
        generations = np.arange(len(self.history))
        order = np.argsort(self.minimized(self.history), axis=1, kind="stable")
        scores = np.take_along_axis(self.history, order, axis=1)
        rates = np.exp(self.candidates[generations, order[:, 0]])
        columns: dict[str, Any] = {
            "generation": generations,
            "best": scores[:, 0],
            "median": scores[:, scores.shape[1] // 2],
            "diverged": np.isinf(self.history).sum(axis=1),
        }
        for step, column in zip(self.knot_steps, rates.T, strict=True):
            columns[f"rate at {step}"] = column
        return columns
