"""Extending a sweep: more configurations, seeds or steps, of which the new are trained.

A run is known by its hyperparameters and its seed. Runs of the finished sweep are kept,
or continued from their last states if there are more steps; all others are new.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from adaptax._core.checks import require
from adaptax.tuning.rounds import Begun, Outcome, Round
from adaptax.tuning.storage.named_arrays import flatten_names
from adaptax.tuning.storage.strict_json import brief_differences
from adaptax.tuning.sweep_result import SweepResult


class Parts(NamedTuple):
    """The rounds that a sweep trains, and the places of their runs in the whole.

    `known` has the places of the runs that are kept as they are, and `old` those of the
    same runs in `extend`. Places are indices of runs, configuration by configuration.
    """

    rounds: list[Round]
    places: list[np.ndarray]
    known: np.ndarray
    old: np.ndarray
    extend: SweepResult | None


def parts_of(
    hparams: Any,
    seeds: np.ndarray,
    num_steps: int,
    extend: SweepResult | None,
    keep_states: bool,
) -> Parts:
    """Divide a sweep into the runs that are new, continued and kept.

    Args:
        hparams: The hyperparameters of all runs, with a leading axis.
        seeds: Their seeds.
        num_steps: Steps of each run.
        extend: The finished sweep.
        keep_states: Whether the states are kept.

    Raises:
        ValueError: If a run of the finished sweep is not among them, or has more steps,
            or its state is needed and was not kept.
    """
    every, none = np.arange(len(seeds)), np.zeros(0, int)

    def select(rows):
        return {name: leaf[rows] for name, leaf in flatten_names(hparams).items()}

    def round_of(rows, begun=None):
        steps = num_steps if begun is None else num_steps - begun.losses.shape[1]
        some = _rows(hparams, rows)
        return Round(
            steps, None, some, seeds[rows], begun=begun, keep_states=keep_states
        )

    if extend is None:
        return Parts([round_of(every)], [every], none, none, None)
    _require_sweep(extend)
    steps = extend.losses.shape[-1]
    require(
        num_steps >= steps,
        f"num_steps must be >= {steps}, that of extend, got {num_steps}.",
    )
    names = {name: leaf.dtype for name, leaf in select(every).items()}
    theirs = flatten_names(extend.hparams)
    require(
        names == {name: leaf.dtype for name, leaf in theirs.items()},
        f"extend must have the hyperparameters {list(names)} of space, with the same "
        f"types, got {list(theirs)}.",
    )
    count = extend.scores.shape[1]
    own_seeds = np.asarray(extend.about["seeds"], np.uint32)
    repeated = {name: np.repeat(leaf, count) for name, leaf in theirs.items()}
    before = _identities(repeated, np.tile(own_seeds, len(extend.scores)))
    known = {run: index for index, run in reversed(list(enumerate(before)))}
    now = _identities(select(every), seeds)
    lost = len(set(before) - set(now))
    require(
        not lost,
        f"space and seeds must have every run of extend, and {lost} of "
        f"{len(before)} are missing. List its points and seeds together with the new "
        "ones.",
    )
    is_known = np.array([run in known for run in now])
    places = every[is_known]
    old = np.array([known[now[place]] for place in places], int)
    states = {name: _flat(leaf)[old] for name, leaf in extend.states.items()}
    needs = "keep_states=True" if num_steps == steps else f"num_steps={num_steps}"
    require(
        bool(states) or not (keep_states or num_steps > steps),
        f"{needs} needs the states of extend, which has none. Run the finished sweep "
        "with keep_states=True.",
    )
    pairs = []
    if not is_known.all():
        pairs.append((every[~is_known], None))
    if num_steps > steps:
        pairs.append((places, Begun(states, _flat(extend.losses)[old])))
        places = old = none
    pairs.sort(key=lambda pair: -len(pair[0]))  # the plan is made for the first round
    rounds = [round_of(*pair) for pair in pairs]
    return Parts(rounds, [rows for rows, _ in pairs], places, old, extend)


def require_same(extend: SweepResult, run: dict[str, Any], mode: str) -> None:
    """Check that a finished sweep was made by the same trial in the same way."""
    there = extend.about.get("run", {})
    require(
        bool(there),
        "extend does not say which trial it belongs to. Make it with this version.",
    )
    different = brief_differences(
        {**there, "mode": extend.about.get("mode")}, {**run, "mode": mode}
    )
    require(
        not different,
        f"extend is of another run: {'; '.join(different)}. Use the same trial, key, "
        "mode and versions, or a new sweep.",
    )


def merged(
    parts: Parts,
    shape: tuple[int, int],
    num_steps: int,
    history: list[Outcome],
    states: Sequence[dict[str, np.ndarray]],
) -> dict[str, Any]:
    """Return the fields of the whole result, from the rounds and the finished sweep."""
    count = shape[0] * shape[1]
    losses = np.full((count, num_steps), np.nan, np.float32)
    scores = np.full(count, np.nan, np.float32)
    metrics: dict[str, np.ndarray] = {}
    kept: dict[str, np.ndarray] = {}

    def fill(into, rows, named):
        for name, array in named.items():
            empty = np.zeros((count, *array.shape[1:]), array.dtype)
            into.setdefault(name, empty)[rows] = array

    if parts.extend is not None and len(parts.known):
        rows, old, extend = parts.known, parts.old, parts.extend
        losses[rows] = _flat(extend.losses)[old]
        scores[rows] = _flat(extend.scores)[old]
        fill(metrics, rows, {n: _flat(m)[old] for n, m in extend.metrics.items()})
        if all(one.keep_states for one in parts.rounds):
            fill(kept, rows, {n: _flat(s)[old] for n, s in extend.states.items()})
    for index, outcome in enumerate(history):
        rows, begun = parts.places[index], parts.rounds[index].begun
        start = 0 if begun is None else begun.losses.shape[1]
        if begun is not None:
            losses[rows, :start] = begun.losses
        losses[rows, start:], scores[rows] = outcome.losses, outcome.scores
        fill(metrics, rows, outcome.metrics)
        fill(kept, rows, states[index] if states else {})

    def shaped(array):
        return array.reshape(*shape, *array.shape[1:])

    return {
        "losses": shaped(losses),
        "scores": shaped(scores),
        "metrics": {name: shaped(array) for name, array in metrics.items()},
        "states": {name: shaped(array) for name, array in kept.items()},
    }


def _require_sweep(extend: Any) -> None:
    if type(extend) is not SweepResult:
        raise TypeError(
            "extend must be a SweepResult, the result of an earlier sweep, got "
            f"{type(extend).__name__}."
        )


def _rows(tree: Any, rows: np.ndarray) -> Any:
    return jax.tree.map(lambda leaf: leaf[rows], tree)


def _identities(named: dict[str, np.ndarray], seeds: np.ndarray) -> list[Any]:
    """Return what identifies each run: its hyperparameters, as bits, and its seed."""
    columns = [named[name] for name in sorted(named)]
    return [
        (*(value.tobytes() for value in row), int(seed))
        for *row, seed in zip(*columns, seeds, strict=True)
    ]


def _flat(array: np.ndarray) -> np.ndarray:
    """Join the axes of members and seeds."""
    return array.reshape(-1, *array.shape[2:])
