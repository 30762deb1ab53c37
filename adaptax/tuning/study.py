"""Studies: tools for any training loop, by ask and tell.

    ask     →  the jobs that can be trained now: hyperparameters, where to start, steps
    tell    ←  what came of each job, in any order: its losses, its score
    result  →  the result of the tool

A study decides what its tool would, and trains nothing. Its decisions depend only on
its arguments and on what it is told, not on the order or on the time.
"""

from collections.abc import Mapping
from os import PathLike
from typing import Any, Generic

import jax
import numpy as np

from adaptax._core.checks import require
from adaptax.tuning.designs import AnyResult, Design
from adaptax.tuning.jobs import Job, OpenRound, as_losses, as_score, jobs_of
from adaptax.tuning.rounds import Outcome, Played, Round, named, outcome_of
from adaptax.tuning.scores import Mode, signed
from adaptax.tuning.storage import digests, result_files
from adaptax.tuning.storage.named_arrays import group, prefixed
from adaptax.tuning.storage.strict_json import brief_differences, plain

_KIND = "adaptax study"


class Study(Generic[AnyResult]):
    """A tool that hands out its runs as jobs; made by a function of `studies`.

    Jobs of one round can be trained at the same time, by any number of workers. Those
    of the next round are known when all of this one have been told.

    >>> from adaptax.tuning import studies
    >>> from adaptax.spaces import grid
    >>> space = {"learning_rate": grid([0.1, 0.5, 0.9])}
    >>> study = studies.successive_halving(space, num_steps=9, eta=3)
    >>> positions = {}
    >>> while jobs := study.ask():
    ...     for job in jobs:
    ...         x, losses = positions.get(job.parent, 1.0), []
    ...         for _ in range(job.steps):
    ...             losses.append(x**2)
    ...             x -= job.hparams["learning_rate"] * x
    ...         positions[job.index] = x
    ...         study.tell(job, losses)
    >>> study.result().best, study.result().reached.tolist()
    ({'learning_rate': 0.9}, [1, 1, 2])
    """

    def __init__(self, design: Design[AnyResult]):
        """Start with the first round.

        Args:
            design: What the study decides, and the result that it makes.
        """
        self._design = design
        self._history: list[Outcome] = []
        self._rounds: list[list[Job]] = []
        self._open: OpenRound | None = None
        self._asked = 0  # jobs
        self._ended = False
        self._given: dict[str, bool] = {}  # whether jobs have losses, and scores

    def ask(self) -> list[Job]:
        """Return the jobs that can be trained now and were not returned before.

        It is empty while outcomes of other jobs are missing, and at the end.

        Raises:
            FloatingPointError: If the tool gives up, as `branch` does if every branch
                of a stage diverges.
        """
        self._advance()
        jobs = [job for job in self._waiting() if job.index >= self._asked]
        if jobs:
            self._asked = self._rounds[-1][-1].index + 1
        return jobs

    def tell(self, job: Job | int, losses: Any, score: Any = None) -> None:
        """Report what came of a job; the order of jobs does not matter.

        Args:
            job: The job, or its index. It may have been asked for before `load`.
            losses: The loss of each step, (steps,); NaN for steps that a run did not
                take any more. `None` if they are not known, which needs a score;
                without a score, the job has failed, and counts as diverged.
            score: The evaluation after the last step, or a pair of it and a dict of
                other scalars, as `evaluate` of a `Trial` returns. `None` to score by
                the losses.

        Raises:
            TypeError: If an argument has another type.
            ValueError: If the job is unknown or was told already, there is not one loss
                for each of its steps, or only some jobs have losses or scores.
        """
        self._advance()
        if self._open is None:
            raise ValueError("job must be one under way, and all were told.")
        place = self._open.place(job)
        own = self._open.jobs[place]
        score, metrics = score if isinstance(score, tuple) else (score, {})
        if not isinstance(metrics, Mapping):
            raise TypeError(f"score must have a dict of metrics, got {metrics!r}.")
        others = {name: as_score(f"{name!r}", one) for name, one in metrics.items()}
        found = None if losses is None else as_losses(losses, own.steps)
        value = None if score is None else as_score("score", score)
        given = {"losses": found is not None, "score": value is not None}
        if any(given.values()):
            self._require_alike(own, given)
            self._given |= given
        if value is not None:
            value = np.float32(signed(np.asarray(value), self._design.mode))
        self._open.tell(place, found, value, others)

    @property
    def done(self) -> bool:
        """Whether nothing is left to train, so that there is a result."""
        self._advance()
        return self._ended

    @property
    def best(self) -> Job | None:
        """The job with the best score in the last round that has a finite one.

        `None` if there is none. Its state is the one that a tool would return.
        """
        self._advance()
        for place in reversed(range(len(self._history))):
            scores = self._history[place].scores
            if np.isfinite(scores).any():
                return self._rounds[place][int(np.argmin(scores))]
        return None

    def result(self) -> AnyResult:
        """Return the result of the tool. It has no state: the states are yours.

        Raises:
            ValueError: If the outcomes of some jobs are missing.
            PopulationDiverged: If no member of a population is left.
        """
        if not self.done:
            raise ValueError(
                f"result() needs the outcomes of all jobs, got {self!r}. Train the "
                "jobs of ask(), and tell() what came of them, until done."
            )
        steps = sum(job.steps for jobs in self._rounds for job in jobs)
        mode = self._design.mode
        about = {"mode": mode, **self._design.about, "member_steps": steps}
        return self._design.result(Played(_filled(self._history, mode)), about)

    def save(self, path: str | PathLike[str]) -> None:
        """Save what was told, completely or not at all, to one file: .json, or .npz.

        Raises:
            OSError: If it cannot be written there.
        """
        self._advance()
        arrays: dict[str, np.ndarray] = {}
        for index, outcome in enumerate(self._history):
            arrays |= prefixed(f"history/{index}", named(outcome))
        if self._open is not None:
            arrays |= prefixed("round", self._open.arrays())
        about = {"study": self.description, "given": self._given}
        result_files.save_arrays(path, _KIND, arrays, about)

    def load(self, path: str | PathLike[str]) -> None:
        """Go on from a saved study; `ask` returns the jobs that were not told.

        Args:
            path: A file of `save`, of a study with the same arguments. This one must be
                new.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is damaged or of another study, or this one is not new.
        """
        require(
            not self._history and not (self._open and self._open.told.any()),
            "load() needs a new study, got one that was told outcomes. Make another "
            "one with the same arguments.",
        )
        arrays, about = result_files.load_arrays(path, _KIND)
        differing = brief_differences(about["study"], self.description)
        require(
            not differing,
            f"{path} has another study: {'; '.join(differing)}. Use another file, or "
            "the same arguments.",
        )
        kept = group(arrays, "history")
        rounds = len({name.split("/")[0] for name in kept})
        self._rounds, self._open, self._asked = [], None, 0
        for index in range(rounds):
            found = outcome_of(group(kept, str(index)), self._design.hparams)
            self._advance()
            require(
                self._open is not None and _fits(found, self._open.now),
                f"{path} has other jobs than this study for the same outcomes. A rule "
                "may depend only on the history.",
            )
            self._history.append(found)
            self._open = None
        self._given = about["given"]
        self._advance()
        if self._open is not None:
            self._open.restore(group(arrays, "round"))

    @property
    def description(self) -> dict[str, Any]:
        """What determines the decisions, as plain JSON: that of the same study."""
        about = digests.of_arguments(self._design.arguments, self._design.key)
        return plain({"tool": self._design.tool, "mode": self._design.mode, **about})

    def __repr__(self) -> str:
        """Return the tool, and how far the study is."""
        state = f"{len(self._history)} rounds"
        if self._ended:
            state += ", done"
        elif self._open is not None:
            told = int(self._open.told.sum())
            state += f", {told}/{len(self._open.jobs)} jobs of the next one"
        return f"<Study of {self._design.tool}: {state}>"

    def _require_alike(self, job: Job, given: dict[str, bool]) -> None:
        """Check that a job has losses, and a score, if the others have."""
        if not job.evaluate:
            require(
                not given.pop("score"),
                f"score must be None for job {job.index}: {self._design.tool} decides "
                "by the losses there.",
            )
        require(
            given.get("score", True) or self._design.mode == "min",
            'score must be given with mode="max", got None.',
        )
        for name, has in given.items():
            require(
                self._given.get(name, has) == has,
                f"{name} must be given for all jobs or for none, got None for some. A "
                "job that failed has neither losses nor a score.",
            )

    def _advance(self) -> None:
        """Conclude a round that is complete, and begin the next one."""
        if self._open is not None and self._open.told.all():
            self._history.append(self._open.outcome())
            self._open = None
        if self._open is not None or self._ended:
            return
        now = self._design.rule(self._history)
        if now is None:
            self._ended = True
            return
        before = self._rounds[-1] if self._rounds else []
        first = before[-1].index + 1 if before else 0
        jobs = jobs_of(now, before, first, self._design.as_given)
        self._rounds.append(jobs)
        self._open = OpenRound(now, jobs, self._history)

    def _waiting(self) -> list[Job]:
        """Return the jobs of the present round that were not told."""
        if self._open is None:
            return []
        pairs = zip(self._open.jobs, self._open.told, strict=True)
        return [job for job, told in pairs if not told]


def _filled(history: list[Outcome], mode: Mode) -> list[Outcome]:
    """Return outcomes with the scores that were told, and all with the same metrics."""
    names = sorted({name for outcome in history for name in outcome.metrics})
    return [
        outcome._replace(
            scores=signed(outcome.scores, mode),
            metrics={
                name: outcome.metrics.get(name, np.full_like(outcome.scores, np.nan))
                for name in names
            },
        )
        for outcome in history
    ]


def _fits(found: Outcome, now: Round) -> bool:
    """Return whether an outcome is of this round."""
    ours = now.parents, now.hparams if now.keep else None
    theirs = found.parents, found.hparams
    if jax.tree.structure(ours) != jax.tree.structure(theirs):
        return False
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return all(np.array_equal(one, other) for one, other in pairs)
