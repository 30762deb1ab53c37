"""Population based training: bad runs copy good ones, and vary their hyperparameters.

    every interval:  score all;  the worst copy the state of better ones (exploit);
                     the hyperparameters of the copies are varied (explore)

The hyperparameters of the best member and its ancestors, interval by interval, form a
schedule: `PopulationResult.schedule`.

Source: Jaderberg et al. (2017), "Population Based Training of Neural Networks" (arXiv
1711.09846), section 4: truncation or tournament selection; perturb or resample. All
members reach the end of an interval together, as in synchronous variants.
"""

from os import PathLike
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from adaptax import spaces
from adaptax._core import checks
from adaptax.tuning.designs import Design
from adaptax.tuning.playing import play
from adaptax.tuning.population_result import PopulationDiverged, PopulationResult
from adaptax.tuning.population_rule import (
    Exploit,
    PopulationRule,
    changing,
    count_members,
    require_rules,
)
from adaptax.tuning.rounds import Played
from adaptax.tuning.running.acting import differing
from adaptax.tuning.running.calls import written
from adaptax.tuning.running.inner_schedules import check_of_changes
from adaptax.tuning.running.planning import Strategy
from adaptax.tuning.running.run_options import RunOptions
from adaptax.tuning.running.seeds import stream
from adaptax.tuning.scores import Mode
from adaptax.tuning.trials.trials import Trial, require_trial


def population_based_training(
    trial: Trial,
    space: dict[str, Any],
    *,
    num_steps: int,
    interval: int,
    members: int = 20,
    exploit: Exploit = "truncation",
    fraction: float = 0.2,
    factors: tuple[float, float] = (0.8, 1.2),
    resample: float = 0.25,
    mode: Mode = "min",
    key: Any = 0,
    strategy: Strategy = "auto",
    mesh: Mesh | None = None,
    checkpoint: str | PathLike[str] | None = None,
    progress: bool = True,
) -> PopulationResult:
    """Train a population, replacing bad members by varied copies of good ones.

    At the end of each interval a member's score is its evaluation, or the mean of its
    losses in the interval. Equal scores are ordered by index. A member that has
    diverged is always replaced.

    Args:
        trial: The trial to train. Its hyperparameters must have an effect at every
            step, as a number given to an adaptax optimizer or controller has.
        space: A dict of axes from `adaptax.spaces`, and of constants. Initial and
            resampled values are drawn from it, and perturbed values stay within it.
        num_steps: Steps of each member.
        interval: Steps between exchanges.
        members: The number of members; ignored if the space has only grids, which
            determine it.
        exploit: "truncation": the worst `fraction` copy random members of the best
            `fraction`. "tournament": each member is compared with a random other one,
            and copies it if that is better. Static.
        fraction: q in (0, 0.5].
        factors: The two factors to perturb by, of which one is drawn.
        resample: The probability in [0, 1] that a hyperparameter of a copy is drawn
            anew instead of perturbed.
        mode: See `sweep`.
        key: See `sweep`, as for the arguments below.
        strategy: See `sweep`.
        mesh: See `sweep`.
        checkpoint: See `sweep`.
        progress: See `sweep`.

    Raises:
        PopulationDiverged: If no member is left; it has the result so far.
        ValueError: If an argument is out of range, a varied hyperparameter has no
            effect, the members do not fit into memory together, or the folder has a
            checkpoint of other arguments.
        KeyError: If the trial reads a hyperparameter that is missing.
        OSError: If the folder cannot be written, or another process is using it.
    """
    call = written(population_based_training, locals())
    require_trial(trial)
    design = population_design(
        space,
        num_steps=num_steps,
        interval=interval,
        members=members,
        exploit=exploit,
        fraction=fraction,
        factors=factors,
        resample=resample,
        mode=mode,
        key=key,
    )
    hparams, num_steps = design.hparams, design.arguments["num_steps"]
    interval = design.arguments["interval"]
    options = RunOptions(key, strategy, mesh, checkpoint, progress, call)
    with design.begin(trial, options) as tool_run:
        if done := tool_run.finished(PopulationResult):
            return done
        changed = changing(space, hparams) if num_steps > interval else []
        fixed = [name for name in differing(hparams) if name not in changed]
        inner = tool_run.require_acting(hparams, changed, within_run=True)
        tool_run.require_acting(hparams, fixed)
        last = (num_steps - 1) // interval * interval
        played = play(
            tool_run,
            design.rule,
            horizon=num_steps,
            together="members",
            check=check_of_changes(inner, changed, last),
            keep_state=True,
        )
        return tool_run.finish(design.result(played, tool_run.about(**design.about)))


def population_design(
    space: dict[str, Any],
    *,
    num_steps: int,
    interval: int,
    members: int = 20,
    exploit: Exploit = "truncation",
    fraction: float = 0.2,
    factors: tuple[float, float] = (0.8, 1.2),
    resample: float = 0.25,
    mode: Mode = "min",
    key: Any = 0,
) -> Design[PopulationResult]:
    """Return what `population_based_training` does, besides training; see there."""
    num_steps = checks.length("num_steps", num_steps)
    interval = checks.length("interval", interval)
    members = checks.length("members", members)
    interval = min(interval, num_steps)
    require_rules(exploit, fraction, factors, resample)
    samples = members if spaces.is_random(space) else None
    count = count_members(space, members, num_steps, interval)
    hparams = spaces.members(space, samples, stream(key, "space"))
    rules = PopulationRule(
        space, exploit, fraction, factors, resample, stream(key, "rules")
    )

    def result(played: Played, about: dict[str, Any]) -> PopulationResult:
        found = _result(played, interval, num_steps, about)
        if not np.isfinite(played.history[-1].scores).any():
            step = min(interval * len(played.history), num_steps)
            raise PopulationDiverged(
                f"all members have diverged by step {step}. Lower the bounds of the "
                "space. The error's `result` is that of the earlier intervals.",
                found,
            )
        return found

    return Design(
        "population based training",
        hparams,
        rules.rule(hparams, num_steps, interval),
        {
            "hparams": hparams,
            "num_steps": num_steps,
            "interval": interval,
            "rules": repr((exploit, fraction, factors, resample)),
        },
        result,
        total=count * num_steps,
        mode=mode,
        key=key,
        about={"num_steps": num_steps},
    )


def _result(
    played: Played, interval: int, num_steps: int, about: dict[str, Any]
) -> PopulationResult:
    """Return the result, without a last interval in which all members diverged."""
    history = played.history
    losses = np.concatenate([outcome.losses for outcome in history], axis=1)
    missing = num_steps - losses.shape[1]
    losses = np.pad(losses, ((0, 0), (0, missing)), constant_values=np.nan)
    fine = [one for one in history if np.isfinite(one.scores).any()] or history[:1]
    stays = np.arange(len(losses))
    parents = [stays if one.parents is None else one.parents for one in fine]
    return PopulationResult(
        jax.tree.map(lambda *rows: np.stack(rows), *(one.hparams for one in fine)),
        losses,
        np.stack([one.scores for one in fine]),
        np.stack(parents),
        {
            name: np.stack([one.metrics[name] for one in fine])
            for name in fine[0].metrics
        },
        interval,
        about,
        played.state,
    )
