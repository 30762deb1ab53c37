"""Successive halving: start many configurations, and continue the best of each rung.

    rung j:  train to r ηʲ steps,  keep the best 1/η of the remaining configurations

All rungs have about the same number of steps in total, so n configurations take about
log n times the steps of a single full run, where a sweep takes n times.

Source: Jamieson & Talwalkar (2016), "Non-stochastic Best Arm Identification and
Hyperparameter Optimization", AISTATS; Li et al. (2020), "A System for Massively
Parallel Hyperparameter Tuning" (arXiv 1810.05934), Algorithm 1, for the rungs. All
members reach a rung together, so none is promoted too early.
"""

from collections.abc import Sequence
from os import PathLike
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh

from adaptax._core import checks
from adaptax.tuning.designs import Design
from adaptax.tuning.halving_result import HalvingResult
from adaptax.tuning.playing import play
from adaptax.tuning.rounds import Outcome, Played, Round, Rule
from adaptax.tuning.rungs import rungs_to, total_cost
from adaptax.tuning.running.acting import differing
from adaptax.tuning.running.calls import written
from adaptax.tuning.running.planning import Strategy
from adaptax.tuning.running.run_options import RunOptions
from adaptax.tuning.scores import Mode
from adaptax.tuning.sweep import Configurations, configurations
from adaptax.tuning.trials.trials import Trial, require_trial

AnyHalving = TypeVar("AnyHalving", bound=HalvingResult)


def successive_halving(
    trial: Trial,
    space: dict[str, Any],
    *,
    num_steps: int,
    seeds: int | Sequence[int] = 1,
    samples: int | None = None,
    eta: int = 3,
    first_rung: int | None = None,
    mode: Mode = "min",
    key: Any = 0,
    strategy: Strategy = "auto",
    mesh: Mesh | None = None,
    checkpoint: str | PathLike[str] | None = None,
    progress: bool = True,
) -> HalvingResult:
    """Train all configurations for a few steps, and the best ones longer and longer.

    At each rung a configuration's score is the mean over its seeds: of the evaluation
    if the trial has one, otherwise of its losses in the last tenth of the steps so far.
    A configuration that has diverged does not continue.

    Args:
        trial: The trial to train.
        space: See `sweep`.
        num_steps: Steps of the last rung.
        seeds: See `sweep`; all seeds of a configuration continue, or none.
        samples: See `sweep`.
        eta: η >= 2: one in η configurations continues.
        first_rung: Steps r of the first rung; by default such that fewer than η
            configurations reach the last rung.
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
    call = written(successive_halving, locals())
    require_trial(trial)
    design = halving_design(
        space,
        num_steps=num_steps,
        seeds=seeds,
        samples=samples,
        eta=eta,
        first_rung=first_rung,
        mode=mode,
        key=key,
    )
    options = RunOptions(key, strategy, mesh, checkpoint, progress, call)
    horizon = int(design.arguments["rungs"][0])
    return race(trial, design, options, HalvingResult, horizon)


def halving_design(
    space: dict[str, Any],
    *,
    num_steps: int,
    seeds: int | Sequence[int] = 1,
    samples: int | None = None,
    eta: int = 3,
    first_rung: int | None = None,
    mode: Mode = "min",
    key: Any = 0,
) -> Design[HalvingResult]:
    """Return what `successive_halving` does, besides training; see there."""
    num_steps = checks.length("num_steps", num_steps)
    eta = checks.length("eta", eta, at_least=2)
    found = configurations(space, samples, seeds, num_steps, key)
    count, per_configuration = found.shape
    rungs = rungs_to(num_steps, count, eta, first_rung)
    return race_design(
        "successive halving",
        HalvingResult,
        found,
        halving(found, rungs, eta),
        rungs,
        {"rungs": rungs, "eta": eta},
        total=per_configuration * total_cost(rungs, count, eta),
        mode=mode,
        key=key,
    )


def race(
    trial: Trial,
    design: Design[AnyHalving],
    options: RunOptions,
    kind: type[AnyHalving],
    horizon: int,
) -> AnyHalving:
    """Train configurations, ending some of them early, and return the result.

    Args:
        trial: The trial to train.
        design: That of `race_design`.
        options: The common arguments of all tools.
        kind: The type of the result.
        horizon: See `play`.
    """
    with design.begin(trial, options) as tool_run:
        if done := tool_run.finished(kind):
            return done
        hparams = design.arguments["hparams"]
        tool_run.require_acting(hparams, differing(hparams))
        together = "configurations and seeds"
        played = play(
            tool_run,
            design.rule,
            horizon=horizon,
            together=together,
            seeds=len(design.arguments["seeds"]),
        )
        return tool_run.finish(design.result(played, tool_run.about(**design.about)))


def race_design(
    tool: str,
    kind: type[AnyHalving],
    runs: Configurations,
    rule: Rule,
    rungs: np.ndarray,
    arguments: dict[str, Any],
    *,
    total: int,
    mode: Mode,
    key: Any,
) -> Design[AnyHalving]:
    """Return the design of a tool that ends some configurations early.

    Args:
        tool: The name of the tool.
        kind: The type of the result.
        runs: All configurations.
        rule: The rule that selects those that continue.
        rungs: The steps at which it selects, ascending; the last is the end.
        arguments: Those that determine the results, besides the configurations.
        total: See `Design`.
        mode: See `Design`.
        key: See `Design`.
    """

    def result(played: Played, about: dict[str, Any]) -> AnyHalving:
        return kind.of_history(runs, played.history, rungs, about)

    return Design(
        tool,
        runs.each,
        rule,
        {"hparams": runs.hparams, "seeds": runs.seeds, **arguments},
        result,
        total=total,
        mode=mode,
        key=key,
        about={"seeds": runs.seeds.tolist(), "num_steps": int(rungs[-1])},
    )


def halving(runs: Configurations, rungs: np.ndarray, eta: int) -> Rule:
    """Return the rule: after each rung the best 1/η continue, unless they diverged.

    Args:
        runs: All configurations.
        rungs: The steps of the rungs, ascending.
        eta: η.
    """
    steps = np.diff(rungs, prepend=0).tolist()

    def rule(history):
        if not history:
            return Round(steps[0], None, runs.each, runs.run_seeds)
        if len(history) == len(rungs):
            return None
        means = history[-1].scores.reshape(-1, len(runs.seeds)).mean(axis=1)
        best = np.argsort(means, kind="stable")[: max(1, len(means) // eta)]
        kept = np.sort(best[np.isfinite(means[best])])
        return go_on(history[-1], kept, steps[len(history)], len(runs.seeds))

    return rule


def go_on(
    last: Outcome, kept: np.ndarray, steps: int, seeds: int, part: int | None = None
) -> Round | None:
    """Return the round in which some configurations continue; `None` without any.

    Args:
        last: The outcome of the previous round.
        kept: The indices of the configurations that continue.
        steps: See `Round`.
        seeds: The number of runs of each configuration.
        part: The number of last steps whose mean is the score; see `Round`.
    """
    if not len(kept):
        return None
    parents = (kept[:, None] * seeds + np.arange(seeds)).ravel()
    hparams = jax.tree.map(lambda leaf: leaf[parents], last.hparams)
    return Round(steps, parents, hparams, part=part, window=part)
