"""Schedules inside a trial: check that they do not change the rate that a tool varies.

A tool that sets the rate at every step reports a schedule, which a schedule inside the
trial would multiply. To detect that, two steps are taken from the same state and
undone: one with the schedules' counts at 0, and one with them at a later step. They
differ only by the schedules.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from adaptax._core.checks import require
from adaptax._core.schedule import ScheduleState
from adaptax.tuning.running.execution import Population

_MOST = 1.25  # the largest change of the rate that does not mislead the finder

_Injected = optax.schedules.InjectStatefulHyperparamsState


@functools.cache
def _counts() -> dict[type, str]:
    """Return the field with the step, for each type of a schedule's state."""
    wrapped = optax.schedules.WrappedSchedule(lambda count: count)  # of _Injected
    return {
        ScheduleState: "step",
        optax.ScaleByScheduleState: "count",
        type(jax.eval_shape(wrapped.init)): "count",
    }


class InnerSchedules(NamedTuple):
    """The leaves of a state, by name and in order, that belong to schedules.

    `is_own` marks all of their leaves, and their values in the state of
    `optax.inject_hyperparams`; `is_count` marks their steps.
    """

    names: list[str]
    is_own: list[bool]
    is_count: list[bool]

    def without_any(self) -> "InnerSchedules":
        """Return the same with none marked."""
        none = [False] * len(self.names)
        return InnerSchedules(self.names, none, none)


def inner_schedules(state: Any) -> InnerSchedules:
    """Find the schedules, of adaptax and Optax, in the state of a trial."""
    counts = _counts()

    def marked(node, only_counts):
        if isinstance(node, _Injected):
            return node._replace(
                count=False,
                hyperparams=jax.tree.map(lambda _: not only_counts, node.hyperparams),
                hyperparams_states=nested(node.hyperparams_states, only_counts),
                inner_state=nested(node.inner_state, only_counts),
            )
        if type(node) not in counts:
            return False
        count = counts[type(node)]
        return [name == count or not only_counts for name in node._fields]

    def nested(tree, only_counts):
        return jax.tree.map(
            lambda node: marked(node, only_counts),
            tree,
            is_leaf=lambda node: isinstance(node, (_Injected, *counts)),
        )

    def marks(only_counts):
        return jax.tree.leaves(nested(state, only_counts))

    names = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(state)]
    return InnerSchedules(names, marks(False), marks(True))


def check_of_changes(
    schedules: InnerSchedules | None, varied: list[str], step: int
) -> Callable[[Population], None] | None:
    """Return the check for hyperparameters varied within a run; `None` without any.

    Args:
        schedules: See `require_steady`.
        varied: The names of the varied hyperparameters.
        step: The last step at which they change.
    """
    if not (varied and step):
        return None
    name = ", ".join(varied)
    return lambda members: require_steady(
        members, schedules, name, step, may_change=True
    )


def require_steady(
    population: Population,
    schedules: InnerSchedules | None,
    name: str,
    step: int,
    *,
    place: str = "",
    others: dict[str, int] | None = None,
    may_change: bool = False,
) -> None:
    """Check that schedules inside a trial do not change a rate that a tool varies.

    Args:
        population: The members before their first step, which are restored.
        schedules: The schedules that the trial follows; `None` if already checked.
        name: The name of the varied hyperparameter.
        step: The later of the two steps to compare.
        place: The path of the trial's state in that of the members.
        others: Values of other leaves of the state for both steps, by name.
        may_change: Whether the rate may change, as long as it does not become 0.

    Raises:
        ValueError: If they do.
    """
    if schedules is None or not any(schedules.is_count):
        return
    named = [f"[0]{place}{leaf}" for leaf in schedules.names]
    counts = [
        leaf for leaf, mark in zip(named, schedules.is_count, strict=True) if mark
    ]
    own = {leaf for leaf, mark in zip(named, schedules.is_own, strict=True) if mark}
    kept = population.saved()
    seen = [
        leaf
        for leaf in named
        if leaf not in own and np.issubdtype(kept[leaf].dtype, np.inexact)
    ]

    def moved(count):
        changed = {**dict.fromkeys(counts, count), **(others or {})}
        begun = {
            leaf: np.full_like(values, changed[leaf]) if leaf in changed else values
            for leaf, values in kept.items()
        }
        population.restore(begun, 0)
        population.advance(1)
        after = population.saved()
        return {leaf: after[leaf] - kept[leaf] for leaf in seen}

    early, late = moved(0), moved(step)
    population.restore(kept, 0)
    differ = [leaf for leaf in seen if np.any(early[leaf] != late[leaf])]
    first, last = (
        np.sqrt(sum(np.sum(np.abs(moves[leaf], dtype=float) ** 2) for leaf in differ))
        for moves in (early, late)
    )
    if may_change:
        steady = last > 0 or first == 0
    else:
        steady = not (last > _MOST * first or first > _MOST * last)
    change = f"{last / first:.2g} times" if first > 0 else "not at all at first, and"
    require(
        steady,
        f"{name!r} is multiplied by a schedule inside the trial, so the reported "
        f"values would not be those applied. At step {step} a step moves {change} as "
        "far as at step 0. Take the schedule out of the trial, or make it longer.",
    )
