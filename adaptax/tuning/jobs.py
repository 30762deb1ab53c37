"""Jobs: the runs of a round, to train anywhere, and what came of them.

A job is one run of a round as plain Python values. The outcome of the round is judged
when all of its jobs were told, by the rules of all tools.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adaptax._core.checks import require
from adaptax.tuning.rounds import Outcome, Round, concluded, scored, since_start
from adaptax.tuning.running import divergence
from adaptax.tuning.storage.named_arrays import group, prefixed


@dataclass(frozen=True)
class Job:
    """A run to train for some steps, from its beginning or from where another ended.

    Attributes:
        index: The number of the job, counted through the study from 0.
        hparams: The hyperparameters, Python numbers in the structure of the space. In a
            search for a schedule, the rate is an array, (steps,).
        seed: The seed of the run: that of its first job.
        parent: The index of the job whose state it continues from; `None` if it starts.
        start: The number of steps that the run has taken before.
        steps: The number of steps to train.
        evaluate: Whether a score counts, or else the losses alone.
    """

    index: int
    hparams: Any
    seed: int
    parent: int | None
    start: int
    steps: int
    evaluate: bool


def jobs_of(
    now: Round, before: Sequence[Job], first: int, as_given: Callable[[Any], Any]
) -> list[Job]:
    """Return the jobs of a round.

    Args:
        now: The round.
        before: The jobs of the round before.
        first: The index of the first job.
        as_given: See `Design`.
    """
    require(
        now.begun is None,
        "begun must be None in a round of a study, which has no states: continue runs "
        "of the previous round by parents.",
    )
    hparams = jax.tree.map(np.asarray, now.hparams)
    found = []
    for run in range(len(jax.tree.leaves(hparams)[0])):
        own = jax.tree.map(lambda leaf, run=run: _plain(leaf[run]), hparams)
        if now.parents is not None:
            parent = before[now.parents[run]]
            begun = parent.seed, parent.index, parent.start + parent.steps
        else:
            assert now.seeds is not None
            begun = int(now.seeds[run]), None, 0
        job = Job(first + run, as_given(own), *begun, now.steps, now.evaluate)
        found.append(job)
    return found


class OpenRound:
    """A round under way: its jobs, and what was told of them so far."""

    def __init__(
        self, now: Round, jobs: list[Job], history: Sequence[Outcome] = ()
    ) -> None:
        """Store the round, its jobs in order, and the outcomes of the rounds before."""
        self.now, self.jobs, self._history = now, jobs, history
        runs = len(jobs)
        self._losses = np.full((runs, now.steps), np.nan, np.float32)
        self._given = np.full(runs, np.nan, np.float32)  # scores
        self._metrics: dict[str, np.ndarray] = {}
        self._seen = np.zeros(runs, bool)  # the losses
        self._scored = np.zeros(runs, bool)
        self.told = np.zeros(runs, bool)

    def place(self, job: Job | int) -> int:
        """Return the place of a job in the round.

        Raises:
            TypeError: If it is not a job.
            ValueError: If it is not in this round, or was told already.
        """
        index = job.index if isinstance(job, Job) else job
        if not isinstance(index, int | np.integer) or isinstance(index, bool):
            raise TypeError(f"job must be a Job of ask() or its index, got {job!r}.")
        first = self.jobs[0].index
        before, later = index < first, index >= first + len(self.jobs)
        require(
            not later and index >= 0,
            f"job must be one that ask() returned, got the index {index}: there are "
            f"{first + len(self.jobs)} jobs so far.",
        )
        require(
            not before and not self.told[index - first],
            f"job {index} was told already. Tell each job once.",
        )
        own = self.jobs[index - first]
        require(
            not isinstance(job, Job) or _alike(job, own),
            f"job {index} must be that of this study, {own}, got {job}.",
        )
        return int(index - first)

    def tell(
        self,
        place: int,
        losses: np.ndarray | None,
        score: np.float32 | None,
        metrics: Mapping[str, np.float32],
    ) -> None:
        """Store what came of a job; see `Study.tell`."""
        if losses is not None:
            self._losses[place], self._seen[place] = losses, True
        if score is not None:
            self._given[place], self._scored[place] = score, True
        for name, value in metrics.items():
            empty = np.full(len(self.jobs), np.nan, np.float32)
            self._metrics.setdefault(name, empty)[place] = value
        self.told[place] = True

    def outcome(self) -> Outcome:
        """Return the outcome, judged like that of a round which a tool trained."""
        now = self.now
        whole, ended = divergence.ended(since_start(self._history, now, self._losses))
        losses = whole[:, whole.shape[1] - now.steps :]
        nothing, blind = np.float32(np.nan), self._scored & ~self._seen
        given = np.where(ended & ~blind, nothing, self._given)
        evaluated = given if self._scored.any() else None
        scores = scored(whole, now.part, now.window, evaluated)
        # Without losses there is nothing else to judge by.
        finite = np.where(np.isfinite(given), given, np.float32(np.inf))
        scores = np.where(blind, finite, scores)
        metrics = {
            name: np.where(ended & ~blind, nothing, values)
            for name, values in self._metrics.items()
        }
        return concluded(now, losses, scores, metrics)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what was told, as arrays to save by name."""
        return {
            "losses": self._losses,
            "given": self._given,
            "seen": self._seen,
            "scored": self._scored,
            "told": self.told,
            **prefixed("metrics", self._metrics),
        }

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Undo `arrays`.

        Raises:
            ValueError: If they are of another round.
        """
        shapes = [arrays[name].shape for name in ("told", "losses")]
        own = [self.told.shape, self._losses.shape]
        require(
            shapes == own,
            f"the arrays of a round must have the shapes {own}, got {shapes}.",
        )
        self._losses, self._given = arrays["losses"].copy(), arrays["given"].copy()
        self._seen, self._scored = arrays["seen"].copy(), arrays["scored"].copy()
        self.told = arrays["told"].copy()
        metrics = group(arrays, "metrics")
        self._metrics = {name: found.copy() for name, found in metrics.items()}


def as_losses(losses: Any, steps: int) -> np.ndarray:
    """Return the losses of a job as float32, (steps,).

    Raises:
        TypeError: If they are not real numbers.
        ValueError: If there is not one for each step.
    """
    found = _numbers("losses", losses)
    require(
        found.shape == (steps,),
        f"losses must be the {steps} of the job's steps, got the shape {found.shape}. "
        "Fill up a run that ended early with NaN, or tell a run that failed by losses "
        "of None.",
    )
    return found


def as_score(name: str, score: Any) -> np.float32:
    """Return a score or a metric as float32; it need not be finite.

    Raises:
        TypeError: If it is not a real number.
        ValueError: If it is not a scalar.
    """
    found = _numbers(name, score)
    require(
        found.shape == (),
        f"{name} must be one number, got the shape {found.shape}. Take its mean.",
    )
    return np.float32(found)


def _numbers(name: str, value: Any) -> np.ndarray:
    try:
        found = np.asarray(value)
        real = jnp.issubdtype(found.dtype, np.floating)
        real = real or jnp.issubdtype(found.dtype, np.integer)
    except (TypeError, ValueError):  # ragged, or traced
        found, real = np.empty(0), False
    if not real or found.size == 0:
        raise TypeError(f"{name} must be real numbers, got {value!r}.")
    with np.errstate(over="ignore"):
        return found.astype(np.float32)


def _plain(value: Any) -> Any:
    """Return a number as a Python number, or an array with an own copy."""
    return value.item() if np.ndim(value) == 0 else np.array(value)


def _alike(one: Job, other: Job) -> bool:
    """Return whether two jobs are the same, with arrays among their values or not."""
    (ours, form), (theirs, other_form) = (
        jax.tree.flatten(vars(job)) for job in (one, other)
    )
    return form == other_form and all(map(np.array_equal, ours, theirs))
