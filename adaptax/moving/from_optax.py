"""From Optax: continue training from the state of an Optax optimizer."""

from collections.abc import Iterator
from typing import Any

import jax
import optax

from adaptax._core.handover import Conversions, gathered
from adaptax._core.schedule import ConstantState
from adaptax._core.states import optimizer_state, without_variables
from adaptax.moving.conversion import (
    converted,
    with_decay_at,
    with_hyperparams,
    with_run_at,
)
from adaptax.moving.parts import (
    DECAY,
    RATE,
    RATES,
    Part,
    common_count,
    fields_of,
    parts_of,
    parts_of_optax,
)


def from_optax(
    opt_state: Any, tx: optax.GradientTransformation, params: optax.Params
) -> Any:
    """Convert the state of an Optax optimizer to that of its adaptax equivalent.

    Training continues as it would in Optax, if `tx` has the same hyperparameters (they
    are not in the state). States of `optax.sgd`, `adagrad`, `rmsprop`, `adam`, `adamw`,
    `adamax`, `nadam`, `nadamw`, `lion`, `adabelief`, `radam` and `lamb` can be
    converted, in chains, in `optax.masked` and in `optax.partition`, with the counts of
    their schedules. A constant rate of `optax.inject_hyperparams` becomes that of
    `tx`, if `tx` has a constant one. Parts of `tx` without an equivalent in Optax, such
    as controllers, start anew.

    Args:
        opt_state: The Optax state, or a Flax `TrainState` or `nnx.Optimizer` that
            contains it.
        tx: The optimizer to continue with.
        params: The present parameters, or their shapes and dtypes; for an
            `nnx.Optimizer`, `nnx.state(model, nnx.Param)`.

    Returns:
        A state of `tx`. Averages are in float32 for half precision.

    Raises:
        ValueError: If a part of the state cannot be converted, or a part of `tx` has no
            counterpart in it; if the state belongs to other parameters; or if its
            counts differ.

    >>> import jax.numpy as jnp, optax, adaptax
    >>> params, optimizer = jnp.zeros(3), optax.adam(0.1)
    >>> _, state = optimizer.update(jnp.ones(3), optimizer.init(params))
    >>> from_optax(state, adaptax.adam(0.1), params)[0].mean
    Array([1., 1., 1.], dtype=float32)
    """
    theirs = list(parts_of_optax(without_variables(optimizer_state(opt_state))))
    params = without_variables(params)
    with gathered() as offers:
        state = tx.init(params)
    conversions = {id(own): found for own, found in offers}
    ours = list(parts_of(state, conversions))
    steps = common_count(part.state.count for part in theirs if part.name == RATE)
    decays = common_count(part.state.count for part in theirs if part.name == DECAY)
    updates = common_count(
        part.state.count for part in theirs if "count" in fields_of(part.state)
    )
    replaced = dict(_matched(theirs, ours, conversions))
    for own in ours:
        count = steps
        if isinstance(own.state, ConstantState) and count is None:
            count = updates
        if own.is_schedule and count is not None:
            begun = optax.ScaleByScheduleState(count)
            replaced[id(own.state)] = converted(begun, own.state, conversions)
    state = jax.tree.map(
        lambda node: replaced.get(id(node), node),
        state,
        is_leaf=lambda node: id(node) in replaced,
    )
    count = updates if steps is None else steps
    if count is not None:
        state = with_run_at(state, count)
    if decays is not None:
        state = with_decay_at(state, decays)
    for part in theirs:
        if part.is_injected:
            state = with_hyperparams(state, part, ours)
    return state


def _matched(
    theirs: list[Part], ours: list[Part], conversions: dict[int, Conversions]
) -> Iterator[tuple[int, Any]]:
    """Match the parts in order, and yield the new state of each part of `tx`."""
    remaining = {id(own.state) for own in ours if not own.is_schedule} & set(
        conversions
    )
    position: dict[tuple[Any, ...], int] = {}
    for index, part in enumerate(theirs):
        if part.is_empty or part.is_schedule or part.is_injected:
            continue
        start = position.get(part.labels, 0)
        found = next(
            (
                place
                for place in range(start, len(ours))
                if ours[place].labels == part.labels
                and _converts(ours[place].state, part, conversions)
            ),
            None,
        )
        if found is None:
            raise ValueError(_refusal(part, ours, conversions))
        own = ours[found].state
        _require_same_order(part, theirs[:index], ours[:found])
        yield id(own), converted(part.state, own, conversions)
        remaining.discard(id(own))
        position[part.labels] = found + 1
    for own in ours:
        if id(own.state) in remaining:
            raise ValueError(
                f"from_optax found nothing in opt_state for the {own.name} of tx"
                f"{_at(own)}. Build tx as the adaptax equivalent of the optimizer that "
                "opt_state belongs to."
            )


def _converts(own: Any, part: Part, conversions: dict[int, Conversions]) -> bool:
    return part.name in conversions.get(id(own), {}) or type(own) is type(part.state)


def _refusal(part: Part, ours: list[Part], conversions: dict[int, Conversions]) -> str:
    wanted = [
        name
        for own in ours
        if own.labels == part.labels and not own.is_schedule
        for name in conversions.get(id(own.state), {})
    ]
    there = f"tx takes {', '.join(wanted)}" if wanted else "tx has no part for it"
    return f"from_optax cannot take {part.name}{_at(part)}; {there}. " + (
        "For a wrapper, convert its inner state, with the inner optimizer as tx."
        if {"inner_state", "inner_opt_state"} & set(fields_of(part.state))
        else "Build tx with the method and the order of parts that opt_state has."
    )


def _at(part: Part) -> str:
    return f" under label {part.labels[-1]!r}" if part.labels else ""


def _require_same_order(part: Part, theirs: list[Part], ours: list[Part]) -> None:
    """Refuse a momentum before the rate in Optax and after it in `tx`, or vice versa.

    The state of Optax's constant rate is empty, like others, so it is recognized only
    between a root mean square and a momentum, as in `optax.rmsprop`. There the minus
    sign is before the momentum too, as in `descend`, which ends in an empty state.
    """
    theirs = [one for one in theirs if one.labels == part.labels]
    ours = [one for one in ours if one.labels == part.labels]
    scaled = any(one.name == RATE for one in theirs)
    if not scaled and any(one.is_empty for one in theirs):
        if not theirs[-1].is_empty or all(one.is_empty for one in theirs):
            return
        scaled = True
    after = any(isinstance(one.state, RATES) for one in ours)
    if scaled != after or (after and not ours[-1].is_empty):
        raise ValueError(
            f"from_optax cannot take {part.name}{_at(part)}: it comes "
            f"{'after' if scaled else 'before'} the rate and the minus sign in "
            "opt_state, but not in tx. optax.rmsprop with momentum is optax.chain("
            "scale_by_rmsprop(), descend(rate), scale_by_momentum(dampening=0.0))."
        )
