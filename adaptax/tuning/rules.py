"""Tools of your own, each defined by a rule.

    rule(history) → the next `Round`, or `None` at the end

A rule is a function of the history, which has an `Outcome` for each round so far. It
trains nothing itself: it returns the runs to start, each from a seed, or to continue,
each from a run of the previous round, their hyperparameters and their steps.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, ClassVar

import jax
import numpy as np
from jax.sharding import Mesh

from adaptax._core import checks, tool_checks
from adaptax._core.checks import require
from adaptax.tuning.designs import Design
from adaptax.tuning.playing import play
from adaptax.tuning.results import ToolResult
from adaptax.tuning.rounds import Outcome, Round, Rule
from adaptax.tuning.running.acting import differing
from adaptax.tuning.running.calls import written
from adaptax.tuning.running.planning import LOSS_BYTES, Strategy, require_room
from adaptax.tuning.running.run_options import RunOptions
from adaptax.tuning.running.seeds import as_seeds
from adaptax.tuning.scores import Mode
from adaptax.tuning.trials.trials import Trial, require_trial


@dataclass(frozen=True, repr=False)
class RuleResult(ToolResult):
    """The result of a rule: the runs of all rounds, one after another.

    `rounds` (runs,) is the round of each run, from 0, and `parents` the run that it
    continued, counted through all rounds; -1 for a new run. `hparams` has a leading
    axis of runs. `losses` is float32 (runs, steps of the longest round), NaN after the
    end of a shorter round, or after a run diverged. `scores` is (runs,), lower is
    better unless they were maximized, infinite if a run diverged. `metrics` has arrays
    like `scores`, NaN in rounds without metrics. `state` is the trial's state of the
    best run, if requested. `about` describes how it was run.
    """

    HEADLINES: ClassVar[tuple[str, ...]] = ("best",)
    KIND: ClassVar[str] = "adaptax rule"
    AXES: ClassVar[dict[str, str]] = {
        "rounds": "runs",
        "parents": "runs",
        "losses": "runs steps",
        "scores": "runs",
        "hparams/": "runs",
        "metrics/": "runs",
    }
    ROWS: ClassVar[str] = "runs"
    PLOT: ClassVar[str] = "rule"

    rounds: np.ndarray
    parents: np.ndarray
    hparams: Any
    losses: np.ndarray
    scores: np.ndarray
    metrics: dict[str, np.ndarray]
    about: dict[str, Any]
    state: Any = None

    @property
    def best(self) -> Any:
        """The hyperparameters of the best score in the last round with a finite one.

        `None` if every run diverged.
        """
        runs = np.flatnonzero(np.isfinite(self.scores))
        if not len(runs):
            return None
        runs = runs[self.rounds[runs] == self.rounds[runs].max()]
        index = runs[np.argmin(self.minimized(self.scores[runs]))]
        return jax.tree.map(lambda leaf: leaf[index].item(), self.hparams)


def play_rule(
    trial: Trial,
    rule: Rule,
    *,
    num_steps: int,
    settings: Mapping[str, Any] | None = None,
    keep_state: bool = False,
    mode: Mode = "min",
    key: Any = 0,
    strategy: Strategy = "auto",
    mesh: Mesh | None = None,
    checkpoint: str | PathLike[str] | None = None,
    progress: bool = True,
) -> RuleResult:
    """Train the rounds of a rule of your own.

    Args:
        trial: The trial to train.
        rule: `rule(history)` returns the next `Round`, or `None` at the end; see the
            module's docstring. `Round.keep` is always True.
        num_steps: The largest number of steps of a run, for the plan and the time left.
        settings: The values that the rule depends on: numbers, text and arrays by name.
            A checkpoint with other settings is refused; of the rule itself, it only
            contains the first round.
        keep_state: Whether to return the state of the best run.
        mode: See `sweep`. In the history that the rule receives, a lower score is
            always better: with "max", it is the negated evaluation.
        key: See `sweep`, as for the arguments below.
        strategy: See `sweep`.
        mesh: See `sweep`.
        checkpoint: See `sweep`.
        progress: See `sweep`.

    Raises:
        TypeError: If the rule returns anything but a `Round` or `None`.
        ValueError: If a round does not match the history, an argument is out of range,
            a hyperparameter varied in the first round has no effect, continued runs do
            not fit into memory together, or the folder has a checkpoint of other
            arguments.
        KeyError: If the trial reads a hyperparameter that is missing.
        OSError: If the folder cannot be written, or another process is using it.

    >>> import jax.numpy as jnp, numpy as np
    >>> import adaptax
    >>> from adaptax.tuning import Round, play_rule
    >>> valley = adaptax.trial(
    ...     init_params=lambda key: jnp.ones(3),
    ...     loss=lambda w, curvature: 0.5 * jnp.sum(curvature * w**2),
    ...     optimizer=lambda h: adaptax.gradient_descent(h["learning_rate"]),
    ...     data=jnp.array([[1.0, 0.5, 0.1]]),
    ... )
    >>> def better_half(history):
    ...     if not history:
    ...         rates = np.geomspace(0.01, 1.0, 4)
    ...         return Round(5, None, {"learning_rate": rates}, np.arange(4))
    ...     best = np.argsort(history[-1].scores)[: len(history[-1].scores) // 2]
    ...     rates = history[-1].hparams["learning_rate"][best]
    ...     return Round(5, best, {"learning_rate": rates}) if len(best) else None
    >>> found = play_rule(valley, better_half, num_steps=15, progress=False)
    >>> found.rounds.tolist(), found.parents.tolist(), found.best["learning_rate"]
    ([0, 0, 0, 0, 1, 1, 2], [-1, -1, -1, -1, 3, 2, 4], 1.0)
    """
    call = written(play_rule, locals())
    require_trial(trial)
    num_steps = checks.length("num_steps", num_steps)
    keep_state = tool_checks.flag("keep_state", keep_state)
    design = rule_design(rule, settings=settings, mode=mode)
    runs = len(design.arguments["seeds"])
    _require_room(runs, "num_steps", num_steps)
    given = {"num_steps": num_steps, "keep_state": keep_state}
    design = dataclasses.replace(
        design, arguments={**design.arguments, **given}, total=runs * num_steps
    )
    options = RunOptions(key, strategy, mesh, checkpoint, progress, call)
    with design.begin(trial, options) as tool_run:
        if done := tool_run.finished(RuleResult):
            return done
        tool_run.require_acting(design.hparams, differing(design.hparams))
        played = play(
            tool_run,
            design.rule,
            horizon=num_steps,
            keep_state=keep_state,
            widen=True,
        )
        about = tool_run.about(num_steps=num_steps)
        return tool_run.finish(design.result(played, about))


def rule_design(
    rule: Rule, *, settings: Mapping[str, Any] | None = None, mode: Mode = "min"
) -> Design[RuleResult]:
    """Return what `play_rule` does, besides training; see there."""
    if not callable(rule):
        raise TypeError(f"rule must be a function of the history, got {rule!r}.")
    if not isinstance(settings, Mapping | None):
        raise TypeError(f"settings must be a dict or None, got {settings!r}.")
    first = _checked(rule([]), [])
    if first is None or first.seeds is None:
        raise ValueError("rule must return a round for an empty history, got None.")
    named = {f"settings.{name}": value for name, value in (settings or {}).items()}
    return Design(
        "rule",
        first.hparams,
        lambda history: _checked(rule(history), history),
        {
            "hparams": first.hparams,
            "seeds": first.seeds,
            "steps": first.steps,
            **named,
        },
        lambda played, about: _laid_out(played.history, about, played.state),
        total=len(first.seeds) * first.steps,
        mode=mode,
    )


def _checked(now: Any, history: Sequence[Outcome]) -> Round | None:
    """Return the round of a rule, as arrays of the host, if it matches the history."""
    if now is None:
        return None
    if not isinstance(now, Round):
        raise TypeError(f"rule must return a Round or None, got {now!r}.")
    hparams = jax.tree.map(_on_host, now.hparams)
    shapes = [leaf.shape for leaf in jax.tree.leaves(hparams)]
    runs = shapes[0][0] if shapes and shapes[0] else 0
    require(
        runs > 0 and all(shape == (runs,) for shape in shapes),
        f"hparams of a round must be arrays of one number for each run, got {shapes}.",
    )
    parents, seeds = now.parents, now.seeds
    require(
        (parents is None) != (seeds is None),
        "a round must have either seeds, for new runs, or parents, for runs to "
        "continue.",
    )
    if seeds is not None:
        seeds = as_seeds(np.asarray(seeds).tolist())
        _require_runs("seeds", len(seeds), runs)
    if parents is not None:
        before = len(history[-1].scores) if history else 0
        parents = np.asarray(parents)
        inside = np.issubdtype(parents.dtype, np.integer)
        inside = inside and bool(((parents >= 0) & (parents < before)).all())
        require(
            inside,
            f"parents of a round must be among the {before} runs of the previous "
            f"round, got {parents.tolist()}.",
        )
        _require_runs("parents", len(parents), runs)
    steps = checks.length("steps", now.steps)
    _require_room(runs, "steps", steps)
    return now._replace(
        steps=steps, parents=parents, hparams=hparams, seeds=seeds, keep=True
    )


def _on_host(leaf: Any) -> np.ndarray:
    """Return a NumPy array with the dtype that JAX would use."""
    array = np.asarray(leaf)
    return array.astype(jax.dtypes.canonicalize_dtype(array.dtype))


def _require_runs(name: str, count: int, runs: int) -> None:
    require(
        count == runs,
        f"a round must have as many {name} as hparams, got {count} for {runs} runs.",
    )


def _require_room(runs: int, name: str, steps: int) -> None:
    require_room(f"{runs} runs with {name}={steps}", LOSS_BYTES * runs * steps)


def _laid_out(history: list[Outcome], about: dict[str, Any], state: Any) -> RuleResult:
    """Return a result with the runs of all rounds one after another."""
    sizes = [len(outcome.scores) for outcome in history]
    starts = np.cumsum([0, *sizes])
    length = max(outcome.losses.shape[1] for outcome in history)
    losses = np.full((starts[-1], length), np.nan, np.float32)
    parents = np.full(starts[-1], -1, np.int32)
    names = {name for outcome in history for name in outcome.metrics}
    metrics = {name: np.full(starts[-1], np.nan, np.float32) for name in sorted(names)}
    for index, outcome in enumerate(history):
        rows = slice(starts[index], starts[index + 1])
        losses[rows, : outcome.losses.shape[1]] = outcome.losses
        if outcome.parents is not None:
            parents[rows] = starts[index - 1] + outcome.parents
        for name, values in outcome.metrics.items():
            metrics[name][rows] = values
    return RuleResult(
        rounds=np.repeat(np.arange(len(history), dtype=np.int32), sizes),
        parents=parents,
        hparams=jax.tree.map(
            lambda *leaves: np.concatenate(leaves), *(one.hparams for one in history)
        ),
        losses=losses,
        scores=np.concatenate([outcome.scores for outcome in history]),
        metrics=metrics,
        about=about,
        state=state,
    )
