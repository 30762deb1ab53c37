"""Moving in: continue training from the state of an Optax optimizer.

    m̂ = μ / (1 − β₁ᵗ),   v̂ = ν / (1 − β₂ᵗ),   v = (1 − d) Σ bⁱ gₜ₋ᵢ

Optax stores the averages μ and ν and corrects their bias at every step; here the state
contains m̂ and v̂. Optax's momentum is a sum; here it is an average with dampening d.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from adaptax._core.checks import require
from adaptax._core.handover import Conversions, gathered
from adaptax._core.leaves import (
    dtype_of,
    is_complex,
    is_placeholder,
    is_trained,
    widened,
)
from adaptax._core.schedule import ConstantState, ScheduleState
from adaptax._core.states import optimizer_state, without_variables
from adaptax._core.weight_decay import WeightDecayState
from adaptax.reading import set_learning_rate

_RATES = (ConstantState, ScheduleState)
_RATE, _DECAY = "ScaleByScheduleState", "WeightDecaySchedule"


def from_optax(
    opt_state: Any, tx: optax.GradientTransformation, params: optax.Params
) -> Any:
    """Convert the state of an Optax optimizer to that of its adaptax equivalent.

    Training continues as it would in Optax, if `tx` has the same hyperparameters (they
    are not in the state). States of `optax.sgd`, `adagrad`, `rmsprop`, `adam`, `adamw`,
    `adamax`, `nadam`, `nadamw`, `lion`, `adabelief` and `radam` can be converted, in
    chains, in `optax.masked` and in `optax.partition`, with the counts of their
    schedules. A constant rate of `optax.inject_hyperparams` becomes that of `tx`, if
    `tx` has a constant one. Parts of `tx` without an equivalent in Optax, such as
    controllers, start anew.

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
    theirs = list(_theirs(without_variables(optimizer_state(opt_state))))
    params = without_variables(params)
    with gathered() as offers:
        state = tx.init(params)
    conversions = {id(own): found for own, found in offers}
    ours = list(_ours(state, conversions))
    steps = _common(part.state.count for part in theirs if part.name == _RATE)
    decays = _common(part.state.count for part in theirs if part.name == _DECAY)
    updates = _common(
        part.state.count for part in theirs if "count" in _fields(part.state)
    )
    replaced = dict(_matched(theirs, ours, conversions))
    for own in ours:
        count = steps
        if isinstance(own.state, ConstantState) and count is None:
            count = updates
        if own.is_schedule and count is not None:
            begun = optax.ScaleByScheduleState(count)
            replaced[id(own.state)] = _made(begun, own.state, conversions)
    state = jax.tree.map(
        lambda node: replaced.get(id(node), node),
        state,
        is_leaf=lambda node: id(node) in replaced,
    )
    if decays is not None:
        state = _with_decay_at(state, decays)
    for part in theirs:
        if part.is_injected:
            state = _with_hyperparams(state, part, ours)
    return state


class _Part(NamedTuple):
    """A state in a chain, and the labels of `optax.partition` that lead there."""

    labels: tuple[Any, ...]
    state: Any

    @property
    def name(self) -> str:
        return type(self.state).__name__

    @property
    def is_empty(self) -> bool:
        return not jax.tree.leaves(self.state)

    @property
    def is_schedule(self) -> bool:
        return isinstance(self.state, _RATES) or self.name in (_RATE, _DECAY)

    @property
    def is_injected(self) -> bool:
        return "hyperparams" in _fields(self.state)


def _theirs(state: Any, labels: tuple[Any, ...] = ()) -> Iterator[_Part]:
    """Yield the parts of an Optax state, in the order in which they act."""
    if type(state) in (tuple, list):
        for one in state:
            yield from _theirs(one, labels)
    elif "inner_states" in _fields(state):
        for label, one in state.inner_states.items():
            yield from _theirs(one, (*labels, label))
    elif isinstance(state, optax.MaskedState):
        yield from _theirs(state.inner_state, labels)
    elif _Part(labels, state).is_injected:
        scheduled = getattr(state, "hyperparams_states", {}).get("learning_rate")
        yield _Part(labels, state)
        yield from _theirs(state.inner_state, labels)
        if scheduled is not None:
            yield _Part(labels, optax.ScaleByScheduleState(scheduled.count))
    else:
        yield _Part(labels, state)


def _ours(
    state: Any, conversions: dict[int, Conversions], labels: tuple[Any, ...] = ()
) -> Iterator[_Part]:
    """Yield the parts of a state of `tx`, including those inside wrappers."""
    if "inner_states" in _fields(state):
        for label, one in state.inner_states.items():
            yield from _ours(one, conversions, (*labels, label))
        return
    if isinstance(state, tuple) and hasattr(state, "_fields"):
        yield _Part(labels, state)
    if id(state) not in conversions and isinstance(state, tuple | list | dict):
        for one in state.values() if isinstance(state, dict) else state:
            yield from _ours(one, conversions, labels)


def _fields(state: Any) -> tuple[str, ...]:
    return getattr(state, "_fields", ()) if isinstance(state, tuple) else ()


def _common(counts: Iterable[Any]) -> Any:
    """Return the common count of all parts; None without parts."""
    counts = list(counts)
    known = {int(count) for count in counts if not isinstance(count, Tracer)}
    require(
        len(known) < 2,
        f"the counts in opt_state differ: {sorted(known)}. Parts that took different "
        "numbers of steps cannot continue as one optimizer.",
    )
    return jnp.asarray(counts[0]) if counts else None


def _matched(
    theirs: list[_Part], ours: list[_Part], conversions: dict[int, Conversions]
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
        yield id(own), _made(part.state, own, conversions)
        remaining.discard(id(own))
        position[part.labels] = found + 1
    for own in ours:
        if id(own.state) in remaining:
            raise ValueError(
                f"from_optax found nothing in opt_state for the {own.name} of tx"
                f"{_at(own)}. Build tx as the adaptax equivalent of the optimizer that "
                "opt_state belongs to."
            )


def _converts(own: Any, part: _Part, conversions: dict[int, Conversions]) -> bool:
    return part.name in conversions.get(id(own), {}) or type(own) is type(part.state)


def _refusal(
    part: _Part, ours: list[_Part], conversions: dict[int, Conversions]
) -> str:
    wanted = [
        name
        for own in ours
        if own.labels == part.labels and not own.is_schedule
        for name in conversions.get(id(own.state), {})
    ]
    there = f"tx takes {', '.join(wanted)}" if wanted else "tx has no part for it"
    return f"from_optax cannot take {part.name}{_at(part)}; {there}. " + (
        "For a wrapper, convert its inner state, with the inner optimizer as tx."
        if {"inner_state", "inner_opt_state"} & set(_fields(part.state))
        else "Build tx with the method and the order of parts that opt_state has."
    )


def _at(part: _Part) -> str:
    return f" under label {part.labels[-1]!r}" if part.labels else ""


def _require_same_order(part: _Part, theirs: list[_Part], ours: list[_Part]) -> None:
    """Refuse a momentum before the rate in Optax and after it in `tx`, or vice versa.

    The state of Optax's constant rate is empty, like others, so it is recognized only
    between a root mean square and a momentum, as in `optax.rmsprop`. There the minus
    sign is before the momentum too, as in `descend`, which ends in an empty state.
    """
    theirs = [one for one in theirs if one.labels == part.labels]
    ours = [one for one in ours if one.labels == part.labels]
    scaled = any(one.name == _RATE for one in theirs)
    if not scaled and any(one.is_empty for one in theirs):
        if not theirs[-1].is_empty or all(one.is_empty for one in theirs):
            return
        scaled = True
    after = any(isinstance(one.state, _RATES) for one in ours)
    if scaled != after or (after and not ours[-1].is_empty):
        raise ValueError(
            f"from_optax cannot take {part.name}{_at(part)}: it comes "
            f"{'after' if scaled else 'before'} the rate and the minus sign in "
            "opt_state, but not in tx. optax.rmsprop with momentum is optax.chain("
            "scale_by_rmsprop(), descend(rate), scale_by_momentum(dampening=0.0))."
        )


def _made(part: Any, own: Any, conversions: dict[int, Conversions]) -> Any:
    """Convert a state to the structure, shapes and dtypes of one of ours."""
    name = type(part).__name__
    maker = conversions.get(id(own), {}).get(name)
    made = part if maker is None else maker(_widened(part))
    pairs, structure = jax.tree.flatten_with_path(own, is_leaf=is_placeholder)
    try:
        leaves = structure.flatten_up_to(made)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{name} in opt_state does not belong to params: {error}"
        ) from None
    return structure.unflatten(
        _fitted(name, jax.tree_util.keystr(path), new, old)
        for (path, old), new in zip(pairs, leaves, strict=True)
    )


def _widened(part: Any) -> Any:
    """Return Optax's averages in float32 at least, with untrained leaves masked."""

    def average(leaf):
        return widened(leaf) if is_trained(leaf) else optax.MaskedNode()

    return type(part)(
        **{
            name: jnp.asarray(field)
            if name == "count"
            else jax.tree.map(average, field)
            for name, field in part._asdict().items()
        }
    )


def _fitted(name: str, path: str, new: Any, old: Any) -> Any:
    if is_placeholder(old):
        return old
    shape = None if is_placeholder(new) else jnp.shape(new)
    require(
        shape == jnp.shape(old),
        f"{name} in opt_state has shape {shape} where the {path[1:]} of tx has "
        f"{jnp.shape(old)}: it does not belong to params.",
    )
    real = is_complex(new) and not is_complex(old)  # Optax has complex squares
    return (jnp.real(new) if real else new).astype(dtype_of(old))


def _with_decay_at(state: Any, step: jax.Array) -> Any:
    """Set the step of scheduled weight decays to Optax's count."""

    def holds(node):
        return isinstance(node, WeightDecayState)

    def visit(node):
        return node._replace(step=step) if holds(node) else node

    return jax.tree.map(visit, state, is_leaf=holds)


def _with_hyperparams(state: Any, part: _Part, ours: list[_Part]) -> Any:
    """Copy the rate, and the hyperparameters injected in `tx`, from Optax's state."""

    def visit(node):
        if "hyperparams" not in _fields(node):
            return node
        common = {
            name: jnp.asarray(value).astype(dtype_of(node.hyperparams[name]))
            for name, value in part.state.hyperparams.items()
            if name in node.hyperparams
        }
        states = {
            name: own
            for name, own in getattr(part.state, "hyperparams_states", {}).items()
            if type(node.hyperparams_states.get(name)) is type(own)
        }
        return node._replace(
            count=part.state.count,
            hyperparams={**node.hyperparams, **common},
            hyperparams_states={**node.hyperparams_states, **states},
        )

    state = jax.tree.map(
        visit, state, is_leaf=lambda node: "hyperparams" in _fields(node)
    )
    rate = part.state.hyperparams.get("learning_rate")
    scheduled = "learning_rate" in getattr(part.state, "hyperparams_states", {})
    if (
        rate is None
        or scheduled
        or not any(
            isinstance(own.state, ConstantState) and own.labels == part.labels
            for own in ours
        )
    ):
        return state
    return set_learning_rate(state, {part.labels[0]: rate} if part.labels else rate)
