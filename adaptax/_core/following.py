"""Controllers: rates that follow what training reports.

`follow` makes a controller of a method that reads a metric, such as the loss, and
`follow_gradients` of a method that reads the gradients of each update. Both count the
steps, keep values that are not finite away from the method, and scale the updates by
its rate.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax

from adaptax._core import checks, counters
from adaptax._core.checks import require
from adaptax._core.extra_args import OBSERVED, as_arguments, read_metric, read_needed
from adaptax._core.guards import flattened, guarded, require_matching
from adaptax._core.leaves import chosen, is_placeholder
from adaptax._core.plausibility import Usual, judged, usual
from adaptax._core.rates import Rate
from adaptax._core.scaling import scale_updates
from adaptax._core.states import (
    LABELED,
    asked,
    folded,
    parts_in_use,
    settled,
    without_variables,
)

_S = TypeVar("_S")


class ControllerState(NamedTuple):
    """The state of a controller.

    `followed` maps a label, by default the name of the monitored metric, to the state
    of the method, which has the field `learning_rate`. `skipped` counts the metrics
    that were not finite, or absurd beside the `usual` ones (see
    `adaptax._core.plausibility`). `step` is the index of the next update, from 0, and
    `changed_at` the first step that used the present rate.
    """

    followed: dict[str, Any]
    skipped: jax.Array
    step: jax.Array
    changed_at: jax.Array
    usual: Usual

    def has_unit(self) -> bool:
        """Return whether it is a rate by itself, and not a multiple of another rate.

        The method's state may define `has_unit`; without it, the controller multiplies.
        """
        methods = (asked(one, "has_unit") for one in self.followed.values())
        return any(method() for method in methods if method)


def started(label: str, method_state: Any) -> ControllerState:
    """Return a controller's initial state from its method's initial state."""
    return ControllerState(
        followed={label: method_state},
        skipped=counters.zero(),
        step=counters.zero(),
        changed_at=counters.zero(),
        usual=usual(),
    )


class Controller(Rate):
    """A rate that follows training: a transformation that can also `observe`."""

    __slots__ = ()

    def observe(self, opt_state: _S, metric: Any) -> _S:
        """Pass the controller a metric, such as a validation loss, between updates.

        Args:
            opt_state: The state of any optimizer that contains this controller, at any
                depth. An `nnx.Optimizer` is changed in place, and returned. Controllers
                of one kind in the groups of `optax.partition` count as copies of one,
                and all of them are advanced.
            metric: A scalar. One that is not finite is counted, and otherwise ignored.

        Returns:
            The optimizer's state with this controller's own state advanced. Controllers
            of one kind are distinguished by the metric they monitor, or by `name`.

        Raises:
            ValueError: If `opt_state` contains no controller, or more than one, that
                could be this one.
        """
        own = jax.eval_shape(self.init, ())

        def is_own(node):
            return _same_controller(node, own)

        number = folded(
            opt_state,
            lambda node: {} if is_own(node) else parts_in_use(node),
            lambda node, numbers: int(is_own(node)) or _number(node, numbers),
        )
        require(
            number > 0,
            f"opt_state has no state of this controller ({_describe(own)}). "
            "Pass the state of an optimizer that was built with it.",
        )
        require(
            number == 1,
            f"opt_state has {number} controllers that could be this one "
            f"({_describe(own)}). Give each a name, as in "
            "reduce_on_plateau(..., name='validation'), or pass the state of one "
            "optimizer.",
        )

        def advance(node):
            if not is_own(node):
                return node
            plain = without_variables(node)
            _, advanced = self.update((), plain, None, **{OBSERVED: metric})
            return jax.tree.unflatten(
                jax.tree.structure(node), jax.tree.leaves(advanced)
            )

        changed = jax.tree.map(advance, opt_state, is_leaf=is_own)
        return settled(opt_state, changed)


UNNAMED = ("value", "observed", "gradient")
"""The labels of controllers that have no name."""


def follow(
    init: Callable[[Any], Any],
    advance: Callable[..., Any],
    *,
    skip: Callable[[Any], Any] | None = None,
    monitor: str | None = "value",
    name: str | None = None,
) -> Controller:
    """Make a controller of a method that reads one metric.

    Args:
        init: `init(params)` returns the method's state, which has the field
            `learning_rate`: the scale to apply.
        advance: `advance(state, metric, updates, params)` returns the state after a
            float32 metric. Metrics that are not finite, or absurd, are not passed to
            it. Where the first metric proves absurd, the method restarts.
        skip: `skip(state)` returns the state after a metric that is not finite; by
            default, the state is left unchanged.
        monitor: The extra argument of `update` to read; with `None`, only `observe`
            passes metrics. Structural.
        name: Distinguishes controllers of one kind for `observe`; by default `monitor`.
            Structural.
    """
    label = name or monitor or "observed"

    def start(params):
        return started(label, init(params))

    def update(updates, state, params=None, **extra_args):
        before, metric = state.followed[label], read_metric(extra_args, monitor)
        if metric is not None:
            finite = jnp.isfinite(metric)
            verdict, new_usual = judged(state.usual, metric)
            start_from = chosen(verdict.anew, init(params), before)
            after = advance(start_from, jnp.where(finite, metric, 0), updates, params)
            ignored = chosen(finite, before, skip(before) if skip else before)
            after = chosen(verdict.plausible, after, ignored)
            state = _advanced(state, label, after, ~verdict.plausible)
            state = state._replace(usual=new_usual)
        if OBSERVED not in extra_args:
            state = state._replace(step=counters.increment(state.step))
        rate = state.followed[label].learning_rate
        return scale_updates(updates, rate), state

    return guarded(Controller(start, update), whole=True)


def follow_gradients(
    who: str,
    init: Callable[[Any], Any],
    advance: Callable[..., Any],
    *,
    needs: tuple[str, ...] = (),
    name: str | None = None,
) -> Controller:
    """Make a controller of a method that reads the gradients of each update.

    The gradient is the extra argument `grad` if it is given, as Optax's line searches
    require; otherwise the updates that reach the controller.

    Args:
        who: The method's name, for messages.
        init: `init(params)` returns the method's state, which has the field
            `learning_rate`: the scale to apply.
        advance: `advance(state, gradients, updates, params, *needed)` returns the state
            after an update, and whether the measurements are usable. If not, the state
            stays as it was, and the update is counted in `skipped`.
        needs: Further required arguments of `update`, in the order of `needed`:
            "params", or names of extra arguments. "value" is passed as a float32
            scalar, and an update whose value is not finite, or absurd, is skipped.
        name: The label of the method's state; "gradient" by default. Structural.
    """
    label = name or "gradient"

    def start(params):
        return started(label, init(params))

    def update(updates, state, params=None, **extra_args):
        if OBSERVED in extra_args:
            raise ValueError(
                f"{who} follows the gradients and has no metric to observe."
            )
        if "params" in needs:
            params = checks.required_params(params, who, as_arguments(needs))
        needed = read_needed(needs, extra_args)
        plausible, new_usual = jnp.ones((), bool), state.usual
        if "value" in needed:
            (plausible, _), new_usual = judged(state.usual, needed["value"])
            needed["value"] = jnp.where(plausible, needed["value"], 0)
        gradients = _gradients(updates, extra_args.get("grad"))
        before = state.followed[label]
        after, usable = advance(before, gradients, updates, params, *needed.values())
        after = chosen(plausible & usable, after, before)
        state = _advanced(state, label, after, ~(plausible & usable))
        state = state._replace(step=counters.increment(state.step), usual=new_usual)
        return scale_updates(updates, after.learning_rate), state

    return guarded(Controller(start, update), whole=True)


def _gradients(updates: optax.Updates, grad: optax.Updates | None) -> optax.Updates:
    """Return the gradient, masked where the updates are; by default the updates."""
    if grad is None:
        return updates
    leaves, structure = flattened(updates)
    column = require_matching(updates, leaves, structure, grad, "`grad` has")
    return structure.unflatten(
        update if is_placeholder(update) else leaf
        for update, leaf in zip(leaves, column, strict=True)
    )


def _advanced(state, label, method_state, skipped) -> ControllerState:
    """Store a method's new state, and the step if its rate changed."""
    changed = method_state.learning_rate != state.followed[label].learning_rate
    return ControllerState(
        followed={label: method_state},
        skipped=counters.increment(state.skipped, where=skipped),
        step=state.step,
        changed_at=jnp.where(changed, state.step, state.changed_at),
        usual=state.usual,
    )


def _same_controller(node: Any, own: ControllerState) -> bool:
    if not isinstance(node, ControllerState):
        return False
    kinds = [
        {label: type(state) for label, state in controller.followed.items()}
        for controller in (node, own)
    ]
    return kinds[0] == kinds[1]


def _number(node: Any, numbers: dict[Any, int]) -> int:
    """Return the number of controllers in a node; the copies in groups count once."""
    return (max if isinstance(node, LABELED) else sum)((0, *numbers.values()))


def _describe(own: ControllerState) -> str:
    ((label, state),) = own.followed.items()
    return f"{type(state).__name__} that listens to {label!r}"
