"""Rounds: what every tool is made of.

    history    the outcomes of the rounds that have been trained
    rule       history -> the next round, or `None` at the end
    round      runs that begin anew, each from its seed, or that go on, each from the
               state of a run of the round before; all for so many steps

`play` trains, judges, shows, saves and resumes what a rule asks for, for every tool
alike. A rule depends on the history alone, so that a run which was interrupted goes on
to the same result.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from adaptax.tuning.running import divergence
from adaptax.tuning.running.execution import Population
from adaptax.tuning.running.tool_runs import ToolRun, fit_together
from adaptax.tuning.storage.checkpoints import Checkpoint
from adaptax.tuning.storage.named_arrays import (
    flatten_names,
    group,
    named_like,
    prefixed,
    to_arrays,
)


class Round(NamedTuple):
    """What to train next.

    `hparams` has a leading axis of runs, and so have `seeds`, of runs that begin anew,
    or `parents`, from which run of the round before each goes on.

    A run's score is its evaluation, if the trial has one and `evaluate` is set, or else
    the mean of its good losses in its last `window` steps, by default a tenth of
    `part`. It is infinite if the run has diverged by the end of its last `part` steps,
    by default all since it began.

    With `keep=False`, the history has the scores and metrics alone.
    """

    steps: int
    parents: np.ndarray | None
    hparams: Any
    seeds: np.ndarray | None = None
    part: int | None = None
    window: int | None = None
    evaluate: bool = True
    keep: bool = True


class Outcome(NamedTuple):
    """What came of a round: `losses` (runs, steps), `scores` (runs,), and `metrics`.

    Losses are NaN after a run diverged, and its score is infinite.
    """

    parents: np.ndarray | None
    hparams: Any
    losses: np.ndarray
    scores: np.ndarray
    metrics: dict[str, np.ndarray]


class Played(NamedTuple):
    """The outcomes of all rounds.

    `state` is the trial's state of the run with the least score, at the end of the last
    round with a finite one; `None` unless it was asked for.
    """

    history: list[Outcome]
    state: Any


Rule = Callable[[Sequence[Outcome]], Round | None]


def once(only: Round) -> Rule:
    """Return the rule of a single round."""
    return lambda history: None if history else only


def curves(history: Sequence[Outcome]) -> np.ndarray:
    """Return the losses of the last round's runs since they began, (runs, steps)."""
    rows = np.arange(len(history[-1].losses))
    parts = []
    for parents, _, losses, *_ in reversed(history):
        parts.append(losses[rows])
        if parents is None:
            break
        rows = parents[rows]
    return np.concatenate(parts[::-1], axis=1)


def origins(history: Sequence[Outcome]) -> list[np.ndarray]:
    """Return, for each round, from which run of the first one each of its runs is."""
    found: list[np.ndarray] = []
    for parents, _, losses, *_ in history:
        before = np.arange(len(losses))
        found.append(before if parents is None else found[-1][parents])
    return found


def best_so_far(losses: np.ndarray, hparams: Any) -> str:
    """Name the run with the least mean of some losses (runs, steps)."""
    means = divergence.mean_of_good(losses, np.isfinite(losses), losses.shape[1])
    run = int(means.argmin())
    named = flatten_names(hparams).items()
    at = ", ".join(f"{name} {value[run]:.3g}" for name, value in named)
    return f"loss {means[run]:.4g} at {at}"


def play(
    tool_run: ToolRun,
    rule: Rule,
    *,
    horizon: int,
    together: str = "",
    check: Callable[[Population], None] | None = None,
    best: Callable[[np.ndarray, Any], str] = best_so_far,
    keep_state: bool = False,
) -> Played:
    """Train what a rule asks for, from the first round or from a checkpoint.

    Args:
        tool_run: Of the tool.
        rule: See the module's text. What it raises ends the run.
        horizon: How many steps the plan is chosen for.
        together: What the runs are called in the error where they do not fit into the
            memory together; by default, runs of a round that begin anew are trained in
            chunks.
        check: Is called with the members before their first step, of a new run.
        best: `best(losses, hparams)` says the best so far, from the newest losses.
        keep_state: Whether the state of the best run is wanted.

    Raises:
        ValueError: If the runs do not fit into the memory.
    """
    player = _Player(tool_run, horizon, together, check, best, keep_state)
    while (now := rule(player.history)) is not None:
        player.train(now)
    return Played(player.history, player.state)


def scored(
    losses: np.ndarray,
    part: int | None = None,
    window: int | None = None,
    evaluated: np.ndarray | None = None,
) -> np.ndarray:
    """Return the scores of runs; see `Round`.

    Args:
        losses: Of each run since it began, (runs, steps).
        part: How many of its last steps a run is judged by.
        window: How many of those its mean is of.
        evaluated: The evaluations, if there are any.
    """
    steps: int = losses.shape[1]
    if part is None:
        part = steps
    if window is None:
        window = -(-part // 10)
    good, bad = divergence.judged(losses)
    found = evaluated
    if found is None:
        last = slice(steps - part, None)
        found = divergence.mean_of_good(losses[:, last], good[:, last], window)
    failed = (bad >= divergence.patience(part)) | ~np.isfinite(found)
    return np.where(failed, np.inf, found).astype(np.float32)


class _Player:
    """What has been trained so far, on the host."""

    def __init__(
        self,
        tool_run: ToolRun,
        horizon: int,
        together: str,
        check: Callable[[Population], None] | None,
        best: Callable[[np.ndarray, Any], str],
        keep_state: bool,
    ):
        self._tool_run, self._horizon, self._together = tool_run, horizon, together
        self._check, self._best, self._keep_state = check, best, keep_state
        self.history: list[Outcome] = []
        self.state: Any = None
        self._population: Population | None = None
        self._before = 0  # the steps that all runs of the history have taken
        self._resumed = tool_run.resumed
        if self._resumed is not None:
            self._load_history(self._resumed)

    def train(self, now: Round) -> None:
        """Train and judge a round, and add its outcome to the history."""
        runs = len(jax.tree.leaves(now.hparams)[0])
        if not self.history and self._resumed is None:
            self._plan(now, runs)
        self._losses = np.full((runs, now.steps), np.nan, np.float32)
        self._scores = np.full(runs, np.inf, np.float32)
        self._metrics: dict[str, np.ndarray] = {}
        start = 0 if self._resumed is None else self._load_round(self._resumed)
        size = chunk = self._tool_run.planned.chunk
        if now.parents is not None:
            size = runs
            most = max(runs, len(self.history[-1].scores))
            fit_together(self._together or "runs", most, chunk)
        for first in range(start, runs, size):
            self._train_wave(now, np.arange(first, first + size))
        self._before += runs * now.steps
        losses, hparams = self._losses, now.hparams
        if not now.keep:
            losses, hparams = losses[:, :0], None
        self.history.append(
            Outcome(now.parents, hparams, losses, self._scores, self._metrics)
        )
        if self._keep_state and np.isfinite(self._scores).any():
            assert self._population is not None
            self.state = self._population.state(int(np.argmin(self._scores)))

    def _plan(self, now: Round, runs: int) -> None:
        planned = self._tool_run.plan(now.hparams, now.seeds, self._horizon)
        if self._together:
            fit_together(self._together, runs, planned.chunk)

    def _train_wave(self, now: Round, places: np.ndarray) -> None:
        """Train the runs at some places; those beyond the last run are fillings."""
        runs, real = len(self._losses), places < len(self._losses)
        rows, alive = np.minimum(places, runs - 1), int(real.sum())
        population = self._population = self._members(now, rows, real)
        begun = population.step
        if self._resumed is not None:
            begun = self._restore(population, self._resumed)
            self._resumed = None
        for losses in population.run(begun + now.steps - population.step):
            taken = population.step - begun
            columns = slice(taken - losses.shape[1], taken)
            self._losses[rows[real], columns] = losses[real]
            best = self._best(self._losses[:, columns], now.hparams)
            self._tool_run.report(alive * losses.shape[1], best)
            start = int(places[0])
            self._tool_run.save(
                self._before + start * now.steps + alive * taken,
                partial(self._arrays, population),
                {
                    "before": self._before,
                    "start": start,
                    "taken": taken,
                    "step": population.step,
                },
            )
        self._judge(now, rows, real)

    def _members(self, now: Round, rows: np.ndarray, real: np.ndarray) -> Population:
        """Return the members of a chunk before its first step, or to be restored."""
        hparams = jax.tree.map(lambda leaf: leaf[rows], now.hparams)
        if now.parents is None:
            assert now.seeds is not None
            self._population = None  # what it holds is freed
            population = self._begun(hparams, now.seeds[rows])
            if self._check and not self.history and self._resumed is None:
                self._check(population)
            population.alive = real
            return population
        if self._population is None:
            first, *others = self._sizes(len(rows))
            some = np.arange(first) % len(rows)
            filled = jax.tree.map(lambda leaf: leaf[some], hparams)
            population = self._begun(filled, np.zeros(first, np.uint32))
            for size in others:
                population.resize(size)
        else:
            population = self._population
            population.replace(now.parents)
        population.hparams = hparams
        return population

    def _begun(self, hparams: Any, seeds: np.ndarray) -> Population:
        plan = self._tool_run.planned.plan
        return Population(self._tool_run.programs, plan, hparams, seeds)

    def _sizes(self, runs: int) -> list[int]:
        """Return how many runs there were in each round since these began."""
        sizes = [runs]
        for outcome in reversed(self.history):
            sizes.insert(0, len(outcome.scores))
            if outcome.parents is None:
                break
        return sizes

    def _judge(self, now: Round, rows: np.ndarray, real: np.ndarray) -> None:
        assert self._population is not None
        losses = self._losses[rows]
        if now.parents is not None:
            before = curves(self.history)[now.parents]
            losses = np.concatenate([before, losses], axis=1)
        evaluated, metrics = self._population.judge() if now.evaluate else (None, {})
        scores = scored(losses, now.part, now.window, evaluated)
        self._scores[rows[real]] = scores[real]
        for name, values in metrics.items():
            empty = np.full(len(self._scores), np.nan, np.float32)
            self._metrics.setdefault(name, empty)[rows[real]] = values[real]

    def _arrays(self, population: Population) -> dict[str, np.ndarray]:
        """Return what a checkpoint keeps."""
        arrays = {
            "losses": self._losses,
            "scores": self._scores,
            "alive": population.alive,
            **prefixed("metrics", self._metrics),
            **prefixed("states", population.saved()),
            **prefixed("best", to_arrays(self.state)),
        }
        for index, outcome in enumerate(self.history):
            arrays |= prefixed(f"history/{index}", _named(outcome))
        return arrays

    def _load_history(self, checkpoint: Checkpoint) -> None:
        kept = group(checkpoint.arrays, "history")
        for index in range(len({name.split("/")[0] for name in kept})):
            arrays = group(kept, str(index))
            self.history.append(_outcome(arrays, self._tool_run.hparams))
        self._tool_run.plan(None, None, 0)
        self._tool_run.report(checkpoint.step)
        if best := group(checkpoint.arrays, "best"):
            self.state = self._tool_run.state_of(best)

    def _load_round(self, checkpoint: Checkpoint) -> int:
        """Take over what there is of the round; return where its chunk starts."""
        arrays = checkpoint.arrays
        self._losses, self._scores = arrays["losses"].copy(), arrays["scores"].copy()
        metrics = group(arrays, "metrics")
        self._metrics = {name: found.copy() for name, found in metrics.items()}
        self._before = checkpoint.notes["before"]
        return checkpoint.notes["start"]

    def _restore(self, population: Population, checkpoint: Checkpoint) -> int:
        """Put the members back; return the step at which the round began."""
        arrays, notes = checkpoint.arrays, checkpoint.notes
        population.restore(group(arrays, "states"), notes["step"])
        population.alive = arrays["alive"].copy()
        return notes["step"] - notes["taken"]


def _named(outcome: Outcome) -> dict[str, np.ndarray]:
    """Return the arrays of an outcome by name."""
    parents, hparams, losses, scores, metrics = outcome
    arrays = {"losses": losses, "scores": scores, **prefixed("metrics", metrics)}
    if parents is not None:
        arrays["parents"] = parents
    if hparams is not None:
        arrays |= prefixed("hparams", flatten_names(hparams))
    return arrays


def _outcome(arrays: dict[str, np.ndarray], like: Any) -> Outcome:
    """Undo `_named`, for hyperparameters of the structure of others."""
    named = group(arrays, "hparams")
    return Outcome(
        arrays.get("parents"),
        named_like(like, named) if named else None,
        arrays["losses"],
        arrays["scores"],
        group(arrays, "metrics"),
    )
