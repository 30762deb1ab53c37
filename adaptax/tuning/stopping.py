"""Median stopping: end configurations that stay worse than the median of all.

    r_ik    the score of configuration i in interval k
    i ends  if min_{j<=k} r_ij > median_l mean_{j<=k} r_lj,  l over all configurations

The best score of a configuration is compared with the average scores of all, so that
few potential winners end. Configurations that ended earlier enter the median with the
average of their intervals. The best remaining configuration always continues.

Source: Golovin et al. (2017), "Google Vizier: A Service for Black-Box Optimization",
KDD, section 3.2.2. There a trial is compared with completed trials; here all reach the
end of an interval together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, ClassVar

import numpy as np
from jax.sharding import Mesh

from adaptax._core import checks
from adaptax.tuning.designs import Design
from adaptax.tuning.halving import go_on, race, race_design
from adaptax.tuning.halving_result import HalvingResult
from adaptax.tuning.rounds import Outcome, Round, Rule, origins
from adaptax.tuning.running.calls import written
from adaptax.tuning.running.planning import Strategy
from adaptax.tuning.running.run_options import RunOptions
from adaptax.tuning.scores import Mode
from adaptax.tuning.sweep import Configurations, configurations
from adaptax.tuning.trials.trials import Trial, require_trial


@dataclass(frozen=True, repr=False)
class StoppingResult(HalvingResult):
    """The result of median stopping: a `HalvingResult` with intervals as rungs."""

    KIND: ClassVar[str] = "adaptax median stopping"


def median_stopping(
    trial: Trial,
    space: dict[str, Any],
    *,
    num_steps: int,
    interval: int,
    grace_steps: int = 0,
    seeds: int | Sequence[int] = 1,
    samples: int | None = None,
    mode: Mode = "min",
    key: Any = 0,
    strategy: Strategy = "auto",
    mesh: Mesh | None = None,
    checkpoint: str | PathLike[str] | None = None,
    progress: bool = True,
) -> StoppingResult:
    """Train all configurations, and end those that stay worse than the median.

    At the end of each interval a configuration's score is the mean over its seeds: of
    the evaluation if the trial has one, otherwise of its losses in the interval. A
    configuration that has diverged does not continue.

    Args:
        trial: The trial to train.
        space: See `sweep`.
        num_steps: Steps of configurations that do not end early.
        interval: Steps between comparisons, <= `num_steps`.
        grace_steps: Steps before the first comparison. Only configurations that diverge
            end earlier.
        seeds: See `sweep`; all seeds of a configuration continue, or none.
        samples: See `sweep`.
        mode: See `sweep`.
        key: See `sweep`.
        strategy: See `sweep`.
        mesh: See `sweep`.
        checkpoint: See `sweep`.
        progress: See `sweep`.

    Raises:
        ValueError: If an argument is out of range, a varied hyperparameter has no
            effect, the members do not fit into memory together, or the folder has a
            checkpoint of other arguments.
        KeyError: If the trial reads a hyperparameter that is missing.
        OSError: If the folder cannot be written, or another process is using it.
    """
    call = written(median_stopping, locals())
    require_trial(trial)
    design = stopping_design(
        space,
        num_steps=num_steps,
        interval=interval,
        grace_steps=grace_steps,
        seeds=seeds,
        samples=samples,
        mode=mode,
        key=key,
    )
    options = RunOptions(key, strategy, mesh, checkpoint, progress, call)
    return race(trial, design, options, StoppingResult, design.about["num_steps"])


def stopping_design(
    space: dict[str, Any],
    *,
    num_steps: int,
    interval: int,
    grace_steps: int = 0,
    seeds: int | Sequence[int] = 1,
    samples: int | None = None,
    mode: Mode = "min",
    key: Any = 0,
) -> Design[StoppingResult]:
    """Return what `median_stopping` does, besides training; see there."""
    num_steps = checks.length("num_steps", num_steps)
    interval = checks.length("interval", interval)
    checks.at_most("interval", interval, "num_steps", num_steps)
    grace_steps = checks.length("grace_steps", grace_steps, at_least=0)
    found = configurations(space, samples, seeds, num_steps, key)
    ends = np.append(np.arange(interval, num_steps, interval), num_steps)
    ends = ends.astype(np.int32)
    return race_design(
        "median stopping",
        StoppingResult,
        found,
        above_median(found, ends, grace_steps),
        ends,
        {"ends": ends, "grace_steps": grace_steps},
        total=len(found.run_seeds) * num_steps,
        mode=mode,
        key=key,
    )


def above_median(runs: Configurations, ends: np.ndarray, grace_steps: int) -> Rule:
    """Return the rule; see the module's docstring.

    Args:
        runs: All configurations.
        ends: The steps at which intervals end, ascending.
        grace_steps: The step from which configurations may end.
    """
    lengths, seeds = np.diff(ends, prepend=0).tolist(), len(runs.seeds)

    def rule(history):
        done = len(history)
        if done == len(ends):
            return None
        steps = lengths[done]
        if not history:
            return Round(
                steps, None, runs.each, runs.run_seeds, part=steps, window=steps
            )
        reports = _reports(history, seeds)
        racing = origins(history)[-1][::seeds] // seeds
        fine = np.isfinite(reports[racing, -1])
        if fine.any() and ends[done - 1] >= grace_steps:
            best = np.nanmin(reports[racing], axis=1)
            median = np.median(np.nanmean(reports, axis=1))
            fine &= best <= max(median, best[fine].min())
        return go_on(history[-1], np.flatnonzero(fine), steps, seeds, part=steps)

    return rule


def _reports(history: Sequence[Outcome], seeds: int) -> np.ndarray:
    """Return the mean scores (configurations, intervals): NaN after one has ended."""
    found = np.full((len(history[0].scores) // seeds, len(history)), np.nan)
    for index, (rows, outcome) in enumerate(
        zip(origins(history), history, strict=True)
    ):
        means = outcome.scores.reshape(-1, seeds).mean(axis=1)
        found[rows[::seeds] // seeds, index] = means
    return found
