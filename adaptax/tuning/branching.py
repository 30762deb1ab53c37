"""Branching: try several rates from one state, and continue from the best.

    stage:  K branches train n steps from one state, each with its own hyperparameters
            the loss of each at the end of the stage is forecast
            the branch with the lowest forecast is trained to the end of the stage

    forecast: ℓ(t) ≈ a e^{−bt} + c,  a >= 0 and b > 0,  fitted to the branch's losses

Source: Jin et al. (2021), "AutoLRS: Automatic Learning-Rate Schedule by Bayesian
Optimization on the Fly" (arXiv 2105.10762), sections 3 and 4. There the rates are tried
one after another, chosen by Bayesian optimization; splines remove outliers; and the
stage restarts with the best rate. Here all rates are tried at once, the curve is fitted
to means of the losses, and the best branch continues.
"""

from collections.abc import Sequence
from os import PathLike
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from adaptax import spaces
from adaptax._core import checks, tool_checks
from adaptax.tuning.analysis.forecasts import forecasts_of
from adaptax.tuning.branch_result import BranchResult
from adaptax.tuning.designs import Design
from adaptax.tuning.playing import play
from adaptax.tuning.rounds import Outcome, Played, Round, curves
from adaptax.tuning.running import divergence
from adaptax.tuning.running.acting import differing
from adaptax.tuning.running.calls import written
from adaptax.tuning.running.inner_schedules import check_of_changes
from adaptax.tuning.running.planning import LOSS_BYTES, Strategy, require_room
from adaptax.tuning.running.run_options import RunOptions
from adaptax.tuning.running.seeds import stream
from adaptax.tuning.scores import Mode, signed
from adaptax.tuning.standings import by_loss
from adaptax.tuning.trials.trials import Trial, require_trial

_STAGE_BYTES = 1000  # the dicts and arrays of a stage


def branch(
    trial: Trial,
    space: dict[str, Any],
    *,
    stages: int,
    stage_steps: int,
    explore_steps: int | None = None,
    branches: int = 10,
    forecast: bool = True,
    mode: Mode = "min",
    key: Any = 0,
    strategy: Strategy = "auto",
    mesh: Mesh | None = None,
    checkpoint: str | PathLike[str] | None = None,
    progress: bool = True,
) -> BranchResult:
    """Train one run that tries several rates at the start of each stage.

    Args:
        trial: The trial to train.
        space: A dict of axes from `adaptax.spaces`. Grids give the same branches in
            every stage; random axes are drawn anew.
        stages: The number of stages.
        stage_steps: Steps of a stage, those of the branches included.
        explore_steps: Steps of the branches; by default a tenth of the stage.
        branches: The number of branches, if an axis is random.
        forecast: Whether to score a branch by its forecast for the end of the stage, or
            else by the mean loss over the last tenth of its steps. Static.
        mode: "max" compares the branches by their evaluations after these steps, which
            are maximized and not forecast; see `sweep`.
        key: See `sweep`, as for the arguments below.
        strategy: See `sweep`.
        mesh: See `sweep`.
        checkpoint: See `sweep`; saved between stages.
        progress: See `sweep`.

    Raises:
        ValueError: If an argument is out of range, a varied hyperparameter has no
            effect, the branches do not fit into memory together, or the folder has a
            checkpoint of other arguments.
        FloatingPointError: If every branch of a stage diverges.
        KeyError: If the trial reads a hyperparameter that is missing.
        OSError: If the folder cannot be written, or another process is using it.
    """
    call = written(branch, locals())
    require_trial(trial)
    design = branch_design(
        space,
        stages=stages,
        stage_steps=stage_steps,
        explore_steps=explore_steps,
        branches=branches,
        forecast=forecast,
        mode=mode,
        key=key,
    )
    hparams = design.arguments["hparams"]
    options = RunOptions(key, strategy, mesh, checkpoint, progress, call)
    with design.begin(trial, options) as tool_run:
        if done := tool_run.finished(BranchResult):
            return done
        varied = differing(jax.tree.map(lambda *rows: np.stack(rows), *hparams))
        several = len(hparams) > 1
        inner = tool_run.require_acting(hparams[0], varied, within_run=several)
        last = (len(hparams) - 1) * design.arguments["stage_steps"]
        played = play(
            tool_run,
            design.rule,
            horizon=len(hparams) * design.arguments["explore_steps"],
            together="branches",
            check=check_of_changes(inner, varied, last),
            best=by_loss,
            keep_state=True,
        )
        return tool_run.finish(design.result(played, tool_run.about(**design.about)))


def branch_design(
    space: dict[str, Any],
    *,
    stages: int,
    stage_steps: int,
    explore_steps: int | None = None,
    branches: int = 10,
    forecast: bool = True,
    mode: Mode = "min",
    key: Any = 0,
) -> Design[BranchResult]:
    """Return what `branch` does, besides training; see there."""
    stages = checks.length("stages", stages)
    stage_steps = checks.length("stage_steps", stage_steps, at_least=2)
    if explore_steps is None:
        explore_steps = max(1, stage_steps // 10)
    explore_steps = checks.length("explore_steps", explore_steps)
    checks.at_most("explore_steps", explore_steps, "stage_steps", stage_steps)
    branches = checks.length("branches", branches)
    forecast = tool_checks.flag("forecast", forecast)
    samples = branches if spaces.is_random(space) else None
    count = spaces.count_members(space, samples)
    each = LOSS_BYTES * explore_steps + 8 * len(spaces.entries(space)) + 16
    require_room(
        f"stages={stages} of {count} branches (branches={branches}) with "
        f"explore_steps={explore_steps} and stage_steps={stage_steps}",
        stages * (count * each + LOSS_BYTES * stage_steps + _STAGE_BYTES),
    )
    hparams = [
        spaces.members(space, samples, stream(key, f"stage {stage}"))
        for stage in range(stages)
    ]
    rule = _Branching(hparams, explore_steps, stage_steps, forecast, mode)
    return Design(
        "branching",
        hparams[0],
        rule,
        {
            "hparams": hparams,
            "stage_steps": stage_steps,
            "explore_steps": explore_steps,
            "forecast": forecast,
        },
        rule.result,
        total=stages * (stage_steps + (count - 1) * explore_steps),
        mode=mode,
        key=key,
    )


class _Branching:
    """The rule: the branches of a stage, then the best of them to the stage's end."""

    def __init__(
        self,
        hparams: list[Any],
        explore_steps: int,
        stage_steps: int,
        forecast: bool,
        mode: Mode = "min",
    ):
        """Store the hyperparameters of each stage's branches, and the arguments."""
        self.hparams, self.mode = hparams, mode
        self.forecast = forecast and mode == "min"
        self.explore_steps, self.stage_steps = explore_steps, stage_steps
        self._forecasts: list[np.ndarray] = []

    def __call__(self, history: Sequence[Outcome]) -> Round | None:
        """Return the next round.

        Raises:
            FloatingPointError: If every branch has diverged, or the chosen one later.
        """
        stage, explored = divmod(len(history), 2)
        if explored:
            forecasts = self.forecasts(history)[stage]
            chosen = int(np.argmin(forecasts))
            if not np.isfinite(forecasts[chosen]):
                raise FloatingPointError(
                    f"every branch of stage {stage} diverged: lower the bounds of "
                    "space."
                )
            hparams = jax.tree.map(lambda leaf: leaf[[chosen]], self.hparams[stage])
            return Round(
                self.stage_steps - self.explore_steps,
                np.array([chosen]),
                hparams,
                part=self.stage_steps,
                evaluate=False,
            )
        if history and not np.isfinite(history[-1].scores[0]):
            raise FloatingPointError(
                f"the branch chosen in stage {stage - 1} diverged later: lower the "
                "bounds of space, or raise explore_steps."
            )
        if stage == len(self.hparams):
            return None
        hparams = self.hparams[stage]
        new = np.zeros(len(jax.tree.leaves(hparams)[0]), np.int32)
        seeds, parents = (None, new) if history else (new.astype(np.uint32), None)
        steps = self.explore_steps
        judge = self.mode == "max"
        return Round(steps, parents, hparams, seeds, part=steps, evaluate=judge)

    def forecasts(self, history: Sequence[Outcome]) -> list[np.ndarray]:
        """Return the forecasts of the branches, (branches,) for each stage."""
        for stage in range(len(self._forecasts), -(-len(history) // 2)):
            self._forecasts.append(self._forecast(history[: 2 * stage + 1]))
        return self._forecasts

    def _forecast(self, history: Sequence[Outcome]) -> np.ndarray:
        _, _, explored, scores, _ = history[-1]
        if not self.forecast:
            return scores
        good, _ = divergence.judged(curves(history))
        good = good[:, -self.explore_steps :]
        found = forecasts_of(np.where(good, explored, np.nan), self.stage_steps)
        return np.where(np.isfinite(scores), found, np.inf).astype(np.float32)

    def result(self, played: Played, about: dict[str, Any]) -> BranchResult:
        """Return the result."""
        history = played.history
        branches, trained = history[::2], history[1::2]
        forecasts = signed(np.stack(self.forecasts(history)), self.mode)
        chosen = np.stack([one.parents for one in trained])[:, 0].astype(np.int32)
        return BranchResult(
            jax.tree.map(lambda *rows: np.stack(rows), *self.hparams),
            np.stack([one.losses for one in branches]),
            forecasts,
            chosen,
            curves(history)[0],
            self.stage_steps,
            about,
            played.state,
        )
