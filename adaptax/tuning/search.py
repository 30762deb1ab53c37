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
from functools import partial
from os import PathLike
from typing import Any

import numpy as np
from jax.sharding import Mesh

from adaptax.tuning import evolution
from adaptax.tuning.analysis.cosine_baselines import (
    CosineBaseline,
)
from adaptax.tuning.designs import Design
from adaptax.tuning.evolution import Algorithm
from adaptax.tuning.playing import play
from adaptax.tuning.rounds import Outcome, Played
from adaptax.tuning.running.calls import written
from adaptax.tuning.running.execution import Population
from adaptax.tuning.running.inner_schedules import InnerSchedules, require_steady
from adaptax.tuning.running.planning import Strategy
from adaptax.tuning.running.run_options import RunOptions
from adaptax.tuning.running.seeds import stream
from adaptax.tuning.scores import Mode, signed
from adaptax.tuning.search_result import SearchResult
from adaptax.tuning.search_rule import ScheduleSearch, SearchSettings
from adaptax.tuning.standings import in_words
from adaptax.tuning.trials.scheduled_trials import (
    along,
    constants_beside,
    following_tables,
)
from adaptax.tuning.trials.trials import Trial, require_trial


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
    mode: Mode = "min",
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
        mode: See `sweep`.
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
    call = written(search_schedule, locals())
    require_trial(trial)
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
    search, design = _designed(settings, hparams, mode, key)
    settings, constants = search.settings, design.arguments["hparams"]
    options = RunOptions(key, strategy, mesh, checkpoint, progress, call)
    with design.begin(following_tables(trial, name), options) as tool_run:
        if done := tool_run.finished(SearchResult):
            return done
        first = {**constants, name: np.array([low], np.float32)}
        inner = tool_run.require_acting(first, [name], within_run=True, trial=trial)
        played = play(
            tool_run,
            search,
            horizon=settings.num_steps,
            check=partial(_require_steady, settings, constants, inner),
            best=partial(_best_so_far, search, trial.evaluate is not None, mode),
        )
        return tool_run.finish(design.result(played, tool_run.about(**design.about)))


def search_design(
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
    mode: Mode = "min",
    key: Any = 0,
) -> Design[SearchResult]:
    """Return what `search_schedule` does, besides training; see there."""
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
    return _designed(settings, hparams, mode, key)[1]


def _designed(
    settings: SearchSettings, hparams: dict[str, Any] | None, mode: Mode, key: Any
) -> tuple[ScheduleSearch, Design[SearchResult]]:
    """Check the arguments, and return the rule and the design."""
    settings = settings.checked()
    settings.require_room()
    name, num_steps = settings.name, settings.num_steps
    constants = constants_beside(name, hparams)
    version = evolution.version()
    search = ScheduleSearch(settings, constants, stream(key, "evolution"))

    def result(played: Played, about: dict[str, Any]) -> SearchResult:
        return _result(search, played.history, mode, about)

    return search, Design(
        "schedule search",
        along(constants, np.zeros((1, num_steps), np.float32)),
        search,
        {**settings._asdict(), "hparams": constants, "evosax": version},
        result,
        total=settings.runs * num_steps,
        mode=mode,
        key=key,
        about=settings._asdict(),
        as_given=lambda given: {**given["constants"], name: given["rates"]},
    )


def _best_so_far(
    search: ScheduleSearch, evaluated: bool, mode: Mode, *newest: Any
) -> str:
    del newest
    some = np.isfinite(search.best)
    return in_words(search.best, evaluated, mode) if some else ""


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
    rule: ScheduleSearch, history: list[Outcome], mode: Mode, about: dict[str, Any]
) -> SearchResult:
    """Return the result."""
    verdict, chosen = history[-1], rule.chosen
    seeds = rule.settings.fresh_seeds

    def of(place):
        rows = slice(place * seeds, (place + 1) * seeds)
        metrics = {name: found[rows] for name, found in verdict.metrics.items()}
        return verdict.losses[rows], verdict.scores[rows], metrics

    finalists, baseline = rule.finalist_rates(), None
    if rule.settings.baseline:
        grid, _ = rule.settings.cosines
        best = rule.finalist_cosines[chosen[1] - len(finalists)]
        peak, share = grid[best].tolist()
        baseline = CosineBaseline(peak, share, *of(1))
    return SearchResult(
        finalists[chosen[0]],
        *of(0),
        signed(rule.history, mode),
        rule.candidates,
        baseline,
        about,
    )
