"""Rounds and rules, of which every tool is made.

    history    the outcomes of the rounds so far
    rule       history -> the next round, or `None` at the end
    round      runs to train for a number of steps: new ones, each from a seed, or
               continued ones, each from the state of a run of the previous round

A rule depends only on the history, so that an interrupted run resumes to the same
result. `playing` trains the rounds, in the same way for every tool.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from adaptax.tuning.running import divergence
from adaptax.tuning.storage.named_arrays import (
    flatten_names,
    group,
    named_like,
    prefixed,
)


class Begun(NamedTuple):
    """Runs that were trained before: their states by name, and their losses.

    Both have a leading axis of runs; all have taken as many steps as there are losses.
    """

    states: dict[str, np.ndarray]
    losses: np.ndarray


class Round(NamedTuple):
    """The runs to train next.

    `hparams` has a leading axis of runs. So have `seeds`, for new runs, or `parents`,
    the runs of the previous round to continue.

    A run's score, lower is better, is its evaluation (negated with `mode="max"`), if
    the trial has one and `evaluate` is set, or else
    the mean of its good losses in its last `window` steps, by default a tenth of
    `part`. It is infinite if the run has diverged, judged by its last `part` steps, by
    default all of them.

    With `keep=False`, the history has only the scores and metrics. With `begun`, new
    runs continue from states that were kept by `keep_states` in an earlier session.
    """

    steps: int
    parents: np.ndarray | None
    hparams: Any
    seeds: np.ndarray | None = None
    part: int | None = None
    window: int | None = None
    evaluate: bool = True
    keep: bool = True
    begun: Begun | None = None
    keep_states: bool = False


class Outcome(NamedTuple):
    """The result of a round: `losses` (runs, steps), `scores` (runs,), and `metrics`.

    After a run has diverged, its losses are NaN, and its score is infinite.
    """

    parents: np.ndarray | None
    hparams: Any
    losses: np.ndarray
    scores: np.ndarray
    metrics: dict[str, np.ndarray]


Rule = Callable[[Sequence[Outcome]], Round | None]


class Played(NamedTuple):
    """The outcomes of all rounds, with scores that a result shows; see `scores`.

    `state` is the trial's state of the run with the best score, at the end of the last
    round with a finite score; `None` unless requested. `states` has the states of all
    runs of each round, by name, if the round keeps them.
    """

    history: list[Outcome]
    state: Any = None
    states: Sequence[dict[str, np.ndarray]] = ()


def once(only: Round) -> Rule:
    """Return the rule of a single round."""
    return lambda history: None if history else only


def curves(history: Sequence[Outcome]) -> np.ndarray:
    """Return all losses of the last round's runs, (runs, steps since they started)."""
    rows = np.arange(len(history[-1].losses))
    parts = []
    for parents, _, losses, *_ in reversed(history):
        parts.append(losses[rows])
        if parents is None:
            break
        rows = parents[rows]
    return np.concatenate(parts[::-1], axis=1)


def since_start(
    history: Sequence[Outcome], now: Round, losses: np.ndarray, rows: Any = slice(None)
) -> Any:
    """Return all losses of a round's runs, (runs, steps since they started).

    Args:
        history: The outcomes of the rounds before.
        now: The round.
        losses: Those of the round, (runs, steps).
        rows: The indices of these runs in the round, by default all.
    """
    if now.parents is not None:
        before = curves(history)[now.parents]
    elif now.begun is not None:
        before = now.begun.losses
    else:
        return losses
    return np.concatenate([before[rows], losses], axis=1)


def concluded(
    now: Round, losses: np.ndarray, scores: np.ndarray, metrics: dict[str, np.ndarray]
) -> Outcome:
    """Return the outcome of a round, without what the history does not keep."""
    hparams = now.hparams
    if not now.keep:
        losses, hparams = losses[:, :0], None
    return Outcome(now.parents, hparams, losses, scores, metrics)


def origins(history: Sequence[Outcome]) -> list[np.ndarray]:
    """Return, for each round, the first-round ancestor of each of its runs."""
    found: list[np.ndarray] = []
    for parents, _, losses, *_ in history:
        before = np.arange(len(losses))
        found.append(before if parents is None else found[-1][parents])
    return found


def last_steps(part: int | None, window: int | None, steps: int) -> tuple[int, int]:
    """Return `Round.part` and `Round.window`, or their defaults for a run's steps."""
    part = steps if part is None else part
    return part, -(-part // 10) if window is None else window


def scored(
    losses: np.ndarray,
    part: int | None = None,
    window: int | None = None,
    evaluated: np.ndarray | None = None,
) -> np.ndarray:
    """Return the scores of runs; see `Round`.

    Args:
        losses: All losses of each run, (runs, steps).
        part: The number of last steps by which divergence is judged.
        window: The number of last steps in the mean.
        evaluated: The evaluations, if there are any.
    """
    steps: int = losses.shape[1]
    part, window = last_steps(part, window, steps)
    good, bad = divergence.judged(losses)
    found = evaluated
    if found is None:
        last = slice(steps - part, None)
        found = divergence.mean_of_good(losses[:, last], good[:, last], window)
    failed = (bad >= divergence.patience(part)) | ~np.isfinite(found)
    return np.where(failed, np.inf, found).astype(np.float32)


def named(outcome: Outcome) -> dict[str, np.ndarray]:
    """Return the arrays of an outcome by name."""
    parents, hparams, losses, scores, metrics = outcome
    arrays = {"losses": losses, "scores": scores, **prefixed("metrics", metrics)}
    if parents is not None:
        arrays["parents"] = parents
    if hparams is not None:
        arrays |= prefixed("hparams", flatten_names(hparams))
    return arrays


def outcome_of(arrays: dict[str, np.ndarray], like: Any) -> Outcome:
    """Undo `named`; `like` has the structure of the hyperparameters."""
    named = group(arrays, "hparams")
    return Outcome(
        arrays.get("parents"),
        named_like(like, named) if named else None,
        arrays["losses"],
        arrays["scores"],
        group(arrays, "metrics"),
    )
