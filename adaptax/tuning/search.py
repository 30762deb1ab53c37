"""Search for the shape of the learning-rate schedule, by an evolution strategy.

    ln η(t) is linear between knots that are evenly spread over the run

    generation 0:   constant rates on a logarithmic grid; the best is the first mean
    the following:  x_1 … x_n ~ the strategy's distribution of the knots
                    f_i = the mean score of runs with x_i, over the generation's seeds
                    the distribution moves towards the x_i with small f_i

Every candidate is trained for the whole run. All candidates of a generation have the
same seeds, so that they do not differ by their seeds; each generation has new seeds, so
that no schedule can fit them.

The winner's score is not the one by which it was chosen. The finalists are the mean of
the last distribution, the average of the means in the last third of the generations,
and the best candidates of the last three. Fresh seeds choose among them, and other
fresh seeds give the score. The baseline, a cosine with a warm-up, comes from a grid
with as many runs and as many finalists, with the same fresh seeds.
"""

import math
from dataclasses import dataclass
from functools import partial
from os import PathLike
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from adaptax._core import checks
from adaptax._core.schedule import Schedule
from adaptax.tuning import evolution
from adaptax.tuning.analysis import tables
from adaptax.tuning.analysis.cosine_baselines import (
    CosineBaseline,
)
from adaptax.tuning.analysis.found_schedules import log_linear
from adaptax.tuning.evolution import Algorithm
from adaptax.tuning.playing import play
from adaptax.tuning.results import Result, ToolResult
from adaptax.tuning.rounds import Outcome
from adaptax.tuning.running.execution import Population
from adaptax.tuning.running.inner_schedules import InnerSchedules, require_steady
from adaptax.tuning.running.planning import Strategy
from adaptax.tuning.running.seeds import stream
from adaptax.tuning.running.tool_runs import RunOptions, ToolRun
from adaptax.tuning.search_rule import ScheduleSearch, SearchSettings
from adaptax.tuning.trials.scheduled_trials import (
    along,
    constants_beside,
    following_tables,
    require_rates,
)
from adaptax.tuning.trials.trials import Trial, require_trial


class Gain(NamedTuple):
    """The mean difference of two scores over seeds, and its standard error."""

    difference: float
    standard_error: float


@dataclass(frozen=True, repr=False)
class SearchResult(ToolResult):
    """The result of a search for a schedule.

    `log_rates` (knots,) are the natural logarithms of the winner's rates. `losses`
    (fresh seeds, steps), `scores` (fresh seeds,), infinite if a run diverged, and
    `metrics`, like `scores`, are those of runs that were not used to choose it.
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
        """The score of the baseline minus the winner's, seed by seed.

        If it is above 0, the winner is better; less than two standard errors may be
        chance. `None` without a baseline.
        """
        if self.baseline is None:
            return None
        with np.errstate(invalid="ignore"):
            differences = self.baseline.scores - self.scores
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

    def table(self, rows: int = 20) -> str:
        """Return the generations as a table to print, with the rates of the best."""
        generations = np.arange(len(self.history))
        rates = np.exp(self.candidates[generations, self.history.argmin(axis=1)])
        columns: dict[str, Any] = {
            "generation": generations,
            "best": self.history.min(axis=1),
            "median": np.sort(self.history)[:, self.history.shape[1] // 2],
            "diverged": np.isinf(self.history).sum(axis=1),
        }
        for step, column in zip(self.knot_steps, rates.T, strict=True):
            columns[f"rate at {step}"] = column
        return tables.text(columns, rows)


def search_schedule(
    trial: Trial,
    *,
    num_steps: int,
    knots: int = 6,
    low: float = 1e-5,
    high: float = 1.0,
    name: str = "learning_rate",
    hparams: dict[str, Any] | None = None,
    population: int = 16,
    generations: int = 20,
    algorithm: Algorithm = "CMA_ES",
    seeds: int = 1,
    fresh_seeds: int = 8,
    baseline: bool = True,
    key: Any = 0,
    strategy: Strategy = "auto",
    mesh: Mesh | None = None,
    checkpoint: str | PathLike[str] | None = None,
    progress: bool = True,
) -> SearchResult:
    """Search for the shape of the learning-rate schedule; see the module's docstring.

    It takes population × generations × seeds runs, as many again for the baseline, and
    twelve times `fresh_seeds` for the finalists.

    Args:
        trial: The trial to train. Its rate must have an effect at every step, as a
            number given to an adaptax optimizer has. Its batches should be drawn
            separately, which is the default: with `batches="shared"`, all seeds have
            the same order of batches, which the search can fit.
        num_steps: Steps T of each run.
        knots: The number of rates to search, 2 <= knots <= T.
        low: The smallest rate, > 0. Logarithms of rates beyond a bound are mirrored at
            it.
        high: The largest rate, > low. Runs with it may diverge.
        name: The hyperparameter that follows the schedule.
        hparams: The other hyperparameters, constants.
        population: Candidates per generation, >= 4.
        generations: The number of generations, >= 2.
        algorithm: A strategy of evosax: "CMA_ES", "SNES", "xNES", "MA_ES", "CR_FM_NES",
            "Sep_CMA_ES" or "SimpleES".
        seeds: Runs of each candidate.
        fresh_seeds: The number of seeds to choose among the finalists, and of other
            seeds to score the winner, >= 2.
        baseline: Whether to search for the best cosine with a warm-up.
        key: See `sweep`, as for the arguments below.
        strategy: See `sweep`.
        mesh: See `sweep`.
        checkpoint: See `sweep`.
        progress: See `sweep`.

    Raises:
        ImportError: If evosax is missing.
        ValueError: If an argument is out of range, the rate has no effect at some step,
            or the folder has a checkpoint of other arguments.
        KeyError: If the trial reads a hyperparameter that is missing.
        FloatingPointError: If every constant rate diverges, or the strategy does.
        OSError: If the folder cannot be written, or another process is using it.
    """
    require_trial(trial)
    num_steps = checks.length("num_steps", num_steps, at_least=2)
    knots = checks.length("knots", knots, at_least=2)
    checks.at_most("knots", knots, "num_steps", num_steps)
    population = checks.length("population", population, at_least=4)
    generations = checks.length("generations", generations, at_least=2)
    seeds = checks.length("seeds", seeds)
    fresh_seeds = checks.length("fresh_seeds", fresh_seeds, at_least=2)
    checks.one_of("algorithm", algorithm, Algorithm)
    require_rates(low, high)
    baseline = checks.flag("baseline", baseline)
    settings = SearchSettings(
        num_steps=num_steps,
        knots=knots,
        low=low,
        high=high,
        population=population,
        generations=generations,
        algorithm=algorithm,
        seeds=seeds,
        fresh_seeds=fresh_seeds,
        baseline=baseline,
        name=name,
    )
    settings.require_room()
    constants = constants_beside(name, hparams)
    tool_run = ToolRun(
        "schedule search",
        following_tables(trial, name),
        along(constants, np.zeros((1, num_steps), np.float32)),
        RunOptions(key, strategy, mesh, checkpoint, progress),
        total=settings.runs * num_steps,
        about={
            **settings._asdict(),
            "hparams": constants,
            "evosax": evolution.version(),
        },
    )
    with tool_run:
        if done := tool_run.finished(SearchResult):
            return done
        first = {**constants, name: np.array([low], np.float32)}
        inner = tool_run.require_acting(first, [name], within_run=True, trial=trial)
        search = ScheduleSearch(settings, constants, stream(key, "evolution"))
        played = play(
            tool_run,
            search,
            horizon=num_steps,
            check=partial(_require_steady, settings, constants, inner),
            best=lambda *_: search.best,
        )
        about = tool_run.about(**settings._asdict())
        return tool_run.finish(_result(search, played.history, about))


def _require_steady(
    settings: SearchSettings,
    constants: Any,
    inner: InnerSchedules | None,
    members: Population,
) -> None:
    """Check that no schedule inside the trial changes the rate."""
    rate = math.sqrt(settings.low * settings.high)
    rates = np.full((members.members, settings.num_steps), rate, np.float32)
    first, members.hparams = members.hparams, along(constants, rates)
    last = settings.num_steps - 1
    require_steady(members, inner, settings.name, last, place=".state")
    members.hparams = first


def _result(
    rule: ScheduleSearch, history: list[Outcome], about: dict[str, Any]
) -> SearchResult:
    """Return the result."""
    verdict, chosen = history[-1], rule.best_two(history)
    seeds = rule.settings.fresh_seeds

    def of(place):
        rows = slice(place * seeds, (place + 1) * seeds)
        metrics = {name: found[rows] for name, found in verdict.metrics.items()}
        return verdict.losses[rows], verdict.scores[rows], metrics

    finalists, baseline = rule.finalist_rates(), None
    if rule.settings.baseline:
        grid, _ = rule.settings.cosines
        best = rule.best_cosines(history)[chosen[1] - len(finalists)]
        peak, share = grid[best].tolist()
        baseline = CosineBaseline(peak, share, *of(1))
    return SearchResult(
        finalists[chosen[0]],
        *of(0),
        rule.history,
        rule.candidates,
        baseline,
        about,
    )
