"""Playing a rule: train, score, report, save and resume its rounds."""

from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

import jax
import numpy as np

from adaptax.tuning.rounds import (
    Outcome,
    Played,
    Round,
    Rule,
    concluded,
    last_steps,
    named,
    outcome_of,
    scored,
    since_start,
)
from adaptax.tuning.running import divergence
from adaptax.tuning.running.execution import Population
from adaptax.tuning.running.planning import fit_together
from adaptax.tuning.running.tool_runs import ToolRun
from adaptax.tuning.scores import signed
from adaptax.tuning.standings import by_loss, by_score
from adaptax.tuning.storage.checkpoints import Checkpoint
from adaptax.tuning.storage.named_arrays import group, prefixed, to_arrays


def play(
    tool_run: ToolRun,
    rule: Rule,
    *,
    horizon: int,
    together: str = "",
    check: Callable[[Population], None] | None = None,
    best: Callable[[np.ndarray, Any], str] | None = None,
    seeds: int = 1,
    keep_state: bool = False,
    widen: bool = False,
) -> Played:
    """Train the rounds of a rule, from the first or from a checkpoint.

    Args:
        tool_run: The run of the tool.
        rule: The rule, see `rounds`. An exception that it raises ends the run.
        horizon: The number of steps that the plan is chosen for.
        together: The runs' name in the error if they do not fit into memory together;
            by default, new runs of a round are trained in chunks.
        check: A function that is called with new members before their first step.
        best: `best(losses, hparams)` returns a text with the best so far, from the
            newest losses; by default the best score, see `standings`.
        seeds: The number of adjacent runs whose mean score ranks a configuration.
        keep_state: Whether to return the state of the best run.
        widen: Whether a round with more runs than the first is trained at once if it
            fits, so that it can be continued; otherwise it is trained in chunks, by the
            program that is compiled.

    Raises:
        ValueError: If the runs do not fit into memory.
    """
    player = _Player(tool_run, horizon, together, check, best, seeds, keep_state, widen)
    while (now := rule(player.history)) is not None:
        player.train(now)
    mode = tool_run.mode
    history = [one._replace(scores=signed(one.scores, mode)) for one in player.history]
    states = [player.states.get(index, {}) for index in range(len(history))]
    return Played(history, player.state, states)


class _Player:
    """Trains rounds, and keeps their outcomes on the host."""

    def __init__(
        self,
        tool_run: ToolRun,
        horizon: int,
        together: str,
        check: Callable[[Population], None] | None,
        best: Callable[[np.ndarray, Any], str] | None,
        seeds: int,
        keep_state: bool,
        widen: bool,
    ):
        self._widen, self._seeds = widen, seeds
        self._tool_run, self._horizon, self._together = tool_run, horizon, together
        self._check, self._best, self._keep_state = check, best, keep_state
        self.history: list[Outcome] = []
        self.state: Any = None
        self.states: dict[int, dict[str, np.ndarray]] = {}  # of runs, by round
        self._population: Population | None = None
        self._before = 0  # the steps that all runs of the history have taken
        self._resumed = tool_run.resumed
        if self._resumed is not None:
            self._load_history(self._resumed)

    def train(self, now: Round) -> None:
        """Train and score a round, and add its outcome to the history."""
        runs = len(jax.tree.leaves(now.hparams)[0])
        if not self.history and self._resumed is None:
            self._plan(now, runs)
        self._losses = np.full((runs, now.steps), np.nan, np.float32)
        self._scores = np.full(runs, np.inf, np.float32)
        self._metrics: dict[str, np.ndarray] = {}
        start = 0 if self._resumed is None else self._load_round(self._resumed)
        planned = self._tool_run.planned
        size = planned.chunk_of(runs) if self._widen else planned.chunk
        if now.parents is not None:
            size = runs
            most = max(runs, len(self.history[-1].scores))
            fit_together(self._together or "runs", most, planned.fitting)
        for first in range(start, runs, size):
            self._train_chunk(now, np.arange(first, first + size))
        self._before += runs * now.steps
        self.history.append(concluded(now, self._losses, self._scores, self._metrics))
        if self._keep_state and np.isfinite(self._scores).any():
            assert self._population is not None
            self.state = self._population.state(int(np.argmin(self._scores)))

    def _plan(self, now: Round, runs: int) -> None:
        planned = self._tool_run.plan(now.hparams, now.seeds, self._horizon)
        if self._together:
            fit_together(self._together, runs, planned.fitting)

    def _train_chunk(self, now: Round, places: np.ndarray) -> None:
        """Train a chunk of runs; indices beyond the last run are padding."""
        runs, real = len(self._losses), places < len(self._losses)
        rows, alive = np.minimum(places, runs - 1), int(real.sum())
        population = self._population = self._members(now, rows, real)
        begun = population.step
        if self._resumed is not None:
            begun = self._restore(population, self._resumed)
            self._resumed = None
        start = int(places[0])
        with closing(population.run(begun + now.steps - population.step)) as calls:
            for losses in calls:
                taken = population.step - begun
                columns = slice(taken - losses.shape[1], taken)
                self._losses[rows[real], columns] = losses[real]
                best = self._best_so_far(now, start, columns)
                self._tool_run.report(alive * losses.shape[1], best)
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
        if now.keep_states:
            self._keep_states(rows[real], population.saved(), real)
        done = self._best_so_far(now, int(places[-1]) + 1, slice(0, now.steps))
        self._tool_run.report(0, done)

    def _members(self, now: Round, rows: np.ndarray, real: np.ndarray) -> Population:
        """Return the members of a chunk before its first step, or before `_restore`."""
        hparams = jax.tree.map(lambda leaf: leaf[rows], now.hparams)
        if now.parents is None:
            assert now.seeds is not None
            self._population = None  # frees its memory
            population = self._begun(hparams, now.seeds[rows])
            if self._check and not self.history and self._resumed is None:
                self._check(population)
            population.alive = real
            if now.begun is not None:
                states, steps = now.begun.states, now.begun.losses.shape[1]
                chosen = {name: array[rows] for name, array in states.items()}
                population.restore(chosen, steps)
                population.alive = real & population.surviving()
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

    def _keep_states(
        self, rows: np.ndarray, states: dict[str, np.ndarray], real: np.ndarray
    ) -> None:
        kept = self.states.setdefault(len(self.history), {})
        for name, array in states.items():
            empty = np.zeros((len(self._losses), *array.shape[1:]), array.dtype)
            kept.setdefault(name, empty)[rows] = array[real]

    def _begun(self, hparams: Any, seeds: np.ndarray) -> Population:
        plan = self._tool_run.planned.plan
        return Population(self._tool_run.programs, plan, hparams, seeds)

    def _sizes(self, runs: int) -> list[int]:
        """Return the number of runs in each round since these started."""
        sizes = [runs]
        for outcome in reversed(self.history):
            sizes.insert(0, len(outcome.scores))
            if outcome.parents is None:
                break
        return sizes

    def _judge(self, now: Round, rows: np.ndarray, real: np.ndarray) -> None:
        assert self._population is not None
        losses = since_start(self.history, now, self._losses[rows], rows)
        evaluated, metrics = self._population.judge() if now.evaluate else (None, {})
        if evaluated is not None:
            evaluated = signed(evaluated, self._tool_run.mode)
        scores = scored(losses, now.part, now.window, evaluated)
        self._scores[rows[real]] = scores[real]
        for name, values in metrics.items():
            empty = np.full(len(self._scores), np.nan, np.float32)
            self._metrics.setdefault(name, empty)[rows[real]] = values[real]

    def _best_so_far(self, now: Round, start: int, newest: slice) -> str:
        """Return a text with the best so far, when the runs before `start` are done."""
        losses, tool_run = self._losses[:, newest], self._tool_run
        if self._best is not None:
            return self._best(losses, now.hparams)
        evaluated = now.evaluate and tool_run.programs.trial.evaluate is not None
        scores, hparams = self._scores, now.hparams
        if not evaluated:
            part, window = last_steps(now.part, now.window, now.steps)
            last = -(-newest.stop * window // part)
            recent = self._losses[:, newest.stop - last : newest.stop]
            means = divergence.mean_of_good(recent, np.isfinite(recent), last)
            scores = np.where(np.arange(len(scores)) < start, scores, means)
        elif not np.isfinite(scores).any() and self.history:
            scores, hparams = self.history[-1].scores, self.history[-1].hparams
        text = by_score(
            scores,
            hparams,
            evaluated=evaluated,
            mode=tool_run.mode,
            seeds=self._seeds,
        )
        return text or by_loss(losses, now.hparams)

    def _arrays(self, population: Population) -> dict[str, np.ndarray]:
        """Return the arrays of a checkpoint."""
        arrays = {
            "losses": self._losses,
            "scores": self._scores,
            "alive": population.alive,
            **prefixed("metrics", self._metrics),
            **prefixed("states", population.saved()),
            **prefixed("best", to_arrays(self.state)),
        }
        for index, states in self.states.items():
            arrays |= prefixed(f"kept/{index}", states)
        for index, outcome in enumerate(self.history):
            arrays |= prefixed(f"history/{index}", named(outcome))
        return arrays

    def _load_history(self, checkpoint: Checkpoint) -> None:
        kept = group(checkpoint.arrays, "history")
        for index in range(len({name.split("/")[0] for name in kept})):
            arrays = group(kept, str(index))
            self.history.append(outcome_of(arrays, self._tool_run.hparams))
        for name, array in group(checkpoint.arrays, "kept").items():
            index, _, name = name.partition("/")
            self.states.setdefault(int(index), {})[name] = array.copy()
        self._tool_run.plan(None, None, 0)
        self._tool_run.report(checkpoint.step)
        if best := group(checkpoint.arrays, "best"):
            self.state = self._tool_run.state_of(best)

    def _load_round(self, checkpoint: Checkpoint) -> int:
        """Load a partly trained round, and return the start of its chunk."""
        arrays = checkpoint.arrays
        self._losses, self._scores = arrays["losses"].copy(), arrays["scores"].copy()
        metrics = group(arrays, "metrics")
        self._metrics = {name: found.copy() for name, found in metrics.items()}
        self._before = checkpoint.notes["before"]
        return checkpoint.notes["start"]

    def _restore(self, population: Population, checkpoint: Checkpoint) -> int:
        """Restore the members, and return the step at which the round started."""
        arrays, notes = checkpoint.arrays, checkpoint.notes
        population.restore(group(arrays, "states"), notes["step"])
        population.alive = arrays["alive"].copy()
        return notes["step"] - notes["taken"]
