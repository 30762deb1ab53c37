"""Rates: how far a step goes.

A rate is a gradient transformation that multiplies the updates by one scalar and keeps
that scalar, as applied, in its state under the name `learning_rate` (float32). Rates
multiply: a controller after a schedule scales what the schedule gives.

    rate in (0, ∞),   updates ← rate · updates

`Schedule` is a function of the step, `Controller` follows what training reports, and
`descend` is the one seat where a learning rate enters an optimizer.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adaptax import checks, counters
from adaptax.checks import Scalar, require
from adaptax.leaves import computing_dtype, dtype_of, is_placeholder, without_variables

LearningRate: TypeAlias = Scalar | Callable[..., Any] | optax.GradientTransformation
"""What a seat takes: a number, a traced scalar, `step -> rate`, or a transformation."""


class ScheduleState(NamedTuple):
    """The state of a schedule.

    `step` is that of the next update, from 0; `learning_rate` was applied at the latest
    one (before the first: will be); `invalid` counts the rates that were not finite,
    for which the rate before was kept, or negative, for which 0 was.
    """

    step: jax.Array
    learning_rate: jax.Array
    invalid: jax.Array


class ConstantState(NamedTuple):
    """The state of `constant`: a `ScheduleState`, and the `value` it was made with."""

    step: jax.Array
    learning_rate: jax.Array
    invalid: jax.Array
    value: jax.Array


class Schedule(optax.GradientTransformationExtraArgs):
    """A rate that is a function of the step.

    It is a transformation and can also be called: `schedule(step)` gives the rate, for
    one step or an array of steps (a negative one counts as 0), so it goes wherever
    Optax takes a schedule. For `optax.inject_hyperparams`, which keeps the state
    itself, `schedule(state)` gives the rate that the next update applies,
    `schedule.init()` needs no parameters, and `schedule.update(state)` advances the
    state.

    `jax.jit`, `jax.eval_shape` and `jax.lax.cond` refuse to be given a tuple to call:
    write `jax.jit(lambda step: schedule(step))`.
    """

    __slots__ = ()

    def __call__(self, step: Any, **extra_args: Any) -> jax.Array:
        """Give the rate at a step, or the one that a state applies next.

        Raises:
            ValueError: If the step is a number too large for the integers in use.
        """
        del extra_args
        before: Any = step if isinstance(step, tuple) else self._state_at(step)
        after: Any = self.update((), before)[1]
        return jnp.broadcast_to(after.learning_rate, before.step.shape)

    def _state_at(self, step: Any) -> Any:
        limit = jnp.iinfo(jnp.result_type(int)).max
        if isinstance(step, int | np.integer) or (
            isinstance(step, np.ndarray) and np.issubdtype(step.dtype, np.integer)
        ):
            require(
                bool(np.all(np.asarray(step) <= limit)),
                f"step must be <= {limit}, got {step}. Give it as a float instead.",
            )
        step = jnp.maximum(jnp.asarray(step), 0)
        return cast(Any, self.init)()._replace(step=step)


def as_schedule(function: Callable[[jax.Array], Any]) -> Schedule:
    """Make a schedule of a function that gives the rate at a step.

    Args:
        function: Takes the step, an int32 scalar from 0 (or an array of steps), and
            gives a rate of the same shape. It is traced: side effects happen once, when
            the program is compiled.

    Raises:
        ValueError: When first used, if the rate has another shape than the step.
        TypeError: Likewise, if it is not real.
    """

    def init(params=None):
        del params
        step, zero = counters.zero(), jnp.zeros((), jnp.float32)
        state = ScheduleState(step, zero, counters.zero())
        return _applied(_evaluate(function, step), state)

    def update(updates, state=None, params=None, **extra_args):
        del params, extra_args
        if state is None:  # optax.inject_hyperparams: the state alone
            return update((), updates)[1]
        state = _applied(_evaluate(function, state.step), state)
        updates = scale_updates(updates, state.learning_rate)
        return updates, state._replace(step=counters.increment(state.step))

    return Schedule(init, update)


def constant(value: Scalar) -> Schedule:
    """Keep one rate, η_t = η₀, in the state, where `set_learning_rate` changes it.

    Source: Widrow & Hoff (1960), "Adaptive Switching Circuits", IRE WESCON 4.

    The rate in the state is used as long as `value` is the one the state was made with.
    Another `value` takes over: a traced scalar is followed from call to call, and a
    restored state does not outvote a rate that was changed in the code.

    Args:
        value: η₀ >= 0.

    Raises:
        TypeError: If `value` is not a real number.
        ValueError: If it is negative, not finite, or not a scalar.

    >>> float(constant(0.5)(10))
    0.5
    """
    checks.rate("learning_rate", value)

    def given():
        return jnp.asarray(value).astype(jnp.float32)

    def init(params=None):
        del params
        zero = jnp.zeros((), jnp.float32)
        state = ConstantState(counters.zero(), zero, counters.zero(), given())
        return _applied(given(), state)

    def update(updates, state=None, params=None, **extra_args):
        del params, extra_args
        if state is None:  # optax.inject_hyperparams: the state alone
            return update((), updates)[1]
        rate = jnp.where(given() == state.value, state.learning_rate, given())
        state = _applied(rate, state)
        updates = scale_updates(updates, state.learning_rate)
        step = counters.increment(state.step)
        value = jnp.where(jnp.isfinite(given()), given(), state.value)
        return updates, state._replace(step=step, value=value)

    return Schedule(init, update)


class ControllerState(NamedTuple):
    """The state of a controller.

    `followed` maps the name of what it listens to onto the state of its method, which
    has the field `learning_rate`; `skipped` counts the metrics that were not finite.
    `step` is that of the next update, from 0, and `changed_at` the first step that used
    the present rate.
    """

    followed: dict[str, Any]
    skipped: jax.Array
    step: jax.Array
    changed_at: jax.Array


class Controller(optax.GradientTransformationExtraArgs):
    """A rate that follows training: a transformation that can also `observe`."""

    __slots__ = ()

    def observe(self, opt_state: Any, metric: Any) -> Any:
        """Tell the controller a metric, such as a validation loss, between updates.

        Args:
            opt_state: The state of any optimizer that contains this controller, at any
                depth; under `optax.partition` each group's state is advanced.
            metric: A scalar. One that is not finite is counted and changes nothing
                else.

        Returns:
            The optimizer's state with this controller's own state advanced. Controllers
            of one kind are told apart by what they listen to, or by their `name`.

        Raises:
            ValueError: If `opt_state` has no state of this controller.
        """
        own = jax.eval_shape(self.init, ())
        found = []

        def advance(node):
            if not _same_controller(node, own):
                return node
            found.append(node)
            plain = without_variables(node)
            _, advanced = self.update((), plain, None, **{OBSERVED: metric})
            return jax.tree.unflatten(
                jax.tree.structure(node), jax.tree.leaves(advanced)
            )

        opt_state = jax.tree.map(
            advance, opt_state, is_leaf=lambda node: _same_controller(node, own)
        )
        require(
            bool(found),
            f"opt_state has no state of this controller ({_describe(own)}). "
            "Pass the state of an optimizer that was built with it.",
        )
        return opt_state


OBSERVED = "observed_metric"
"""The extra argument by which `observe` hands a metric to a controller's `update`."""


def follow(
    init: Callable[[Any], Any],
    advance: Callable[..., Any],
    *,
    skip: Callable[[Any], Any] | None = None,
    monitor: str | None = "value",
    name: str | None = None,
) -> Controller:
    """Make a controller of a method's state and its answer to one metric.

    Args:
        init: `init(params)` gives the method's state, which has the field
            `learning_rate`: the scale to apply.
        advance: `advance(state, metric, updates, params)` gives the state after one
            finite float32 metric. A metric that is not finite is never shown to it.
        skip: `skip(state)` gives the state after a metric that is not finite; by
            default, the state as it was.
        monitor: The extra argument of `update` to listen to; `None` listens to
            `observe` only. Structural.
        name: Tells controllers of one kind apart for `observe`. Structural; by default
            what is listened to.
    """
    label = name or monitor or "observed"

    def start(params):
        zeros = (counters.zero() for _ in range(3))
        return ControllerState({label: init(params)}, *zeros)

    def update(updates, state, params=None, **extra_args):
        before, metric = state.followed[label], read_metric(extra_args, monitor)
        if metric is not None:
            finite = jnp.isfinite(metric)
            after = advance(before, jnp.where(finite, metric, 0), updates, params)
            skipped = skip(before) if skip else before
            state = _advanced(state, label, _choose(finite, after, skipped), ~finite)
        if OBSERVED not in extra_args:
            state = state._replace(step=counters.increment(state.step))
        rate = state.followed[label].learning_rate
        return scale_updates(updates, rate), state

    return Controller(start, update)


def follow_gradients(
    init: Callable[[Any], Any],
    advance: Callable[..., Any],
    *,
    needs: tuple[str, ...] = (),
    name: str | None = None,
) -> Controller:
    """Make a controller that follows the gradients, update by update.

    The gradient is the extra argument `grad` where that is given, as it is to the line
    searches of Optax; else it is the updates that reach the controller.

    Args:
        init: `init(params)` gives the method's state, which has the field
            `learning_rate`: the scale to apply.
        advance: `advance(state, gradients, updates, params, *needed)` gives the state
            after an update, and whether what it measured can be used. If not, the state
            stays as it was, and the update is counted in `skipped`.
        needs: What else `update` must be given, in this order: "params", or names of
            extra arguments. "value" arrives as a float32 scalar, and an update with one
            that is not finite is skipped.
        name: Names the method's state; "gradient" by default. Structural.
    """
    label = name or "gradient"

    def start(params):
        zeros = (counters.zero() for _ in range(3))
        return ControllerState({label: init(params)}, *zeros)

    def update(updates, state, params=None, **extra_args):
        if OBSERVED in extra_args:
            raise ValueError(
                "this controller follows the gradients and has no metric to observe."
            )
        needed = _needed(needs, params, extra_args)
        finite = jnp.isfinite(needed.get("value", jnp.zeros(())))
        if "value" in needed:
            needed["value"] = jnp.where(finite, needed["value"], 0)
        gradients = _gradients(updates, extra_args.get("grad"))
        before = state.followed[label]
        after, usable = advance(before, gradients, updates, params, *needed.values())
        after = _choose(finite & usable, after, before)
        state = _advanced(state, label, after, ~(finite & usable))
        state = state._replace(step=counters.increment(state.step))
        return scale_updates(updates, after.learning_rate), state

    return Controller(start, update)


def as_rate(learning_rate: LearningRate) -> optax.GradientTransformationExtraArgs:
    """Make a rate of whatever a seat takes.

    Raises:
        TypeError: If it is none of the things listed at `LearningRate`.
        ValueError: If it is a number that is negative, not finite or not a scalar.
    """
    if isinstance(learning_rate, optax.GradientTransformation):
        return optax.with_extra_args_support(learning_rate)
    if callable(learning_rate):
        return as_schedule(learning_rate)
    try:
        return constant(cast(Scalar, learning_rate))
    except TypeError:
        raise TypeError(
            "learning_rate must be a number, a traced scalar, a function step -> rate, "
            f"or a gradient transformation, got {learning_rate!r}."
        ) from None


def descend(*learning_rates: LearningRate) -> optax.GradientTransformationExtraArgs:
    """Go downhill: multiply the updates by every rate, and by −1.

    Args:
        learning_rates: One or more of: a number, a traced scalar, a function
            `step -> rate`, a gradient transformation (a schedule, a controller, an
            estimate, a chain of them).

    Raises:
        TypeError: If there is none, or one is nothing of these.

    >>> import optax
    >>> tx = descend(0.5, optax.cosine_decay_schedule(1.0, decay_steps=100))
    >>> updates, state = tx.update(1.0, tx.init(1.0))
    >>> float(updates)
    -0.5
    """
    if not learning_rates:
        raise TypeError("descend needs at least one learning rate.")
    return optax.chain(*map(as_rate, learning_rates), optax.stateless(_negate))


def scale_updates(updates: optax.Updates, scale: jax.Array) -> optax.Updates:
    """Multiply every real or complex leaf by a scalar, keeping its dtype."""

    def multiply(leaf):
        if not jnp.issubdtype(dtype_of(leaf), jnp.inexact):
            return leaf
        dtype = dtype_of(leaf)
        wide = computing_dtype(dtype)
        return (jnp.asarray(leaf).astype(wide) * scale.astype(wide)).astype(dtype)

    return jax.tree.map(multiply, updates)


def _negate(updates: optax.Updates, params: optax.Params | None) -> optax.Updates:
    del params
    return jax.tree.map(
        lambda leaf: -leaf if jnp.issubdtype(dtype_of(leaf), jnp.inexact) else leaf,
        updates,
    )


def _evaluate(function: Callable[[jax.Array], Any], step: jax.Array) -> jax.Array:
    rate = jnp.asarray(function(step))
    if jnp.issubdtype(rate.dtype, jnp.complexfloating):
        raise TypeError(f"a schedule must give a real rate, got dtype {rate.dtype}.")
    require(
        rate.shape in ((), step.shape),
        f"a schedule must give a rate of the step's shape {step.shape}, "
        f"got {rate.shape}.",
    )
    return rate.astype(jnp.float32)


def _applied(rate: jax.Array, state: Any) -> Any:
    """Enter a rate into a state: the one before where not finite, and never below 0."""
    finite = jnp.isfinite(rate)
    invalid = counters.increment(state.invalid, where=~finite | (rate < 0))
    rate = jnp.where(finite, jnp.maximum(rate, 0), state.learning_rate)
    return state._replace(learning_rate=rate, invalid=invalid)


def _gradients(updates: optax.Updates, grad: optax.Updates | None) -> optax.Updates:
    """Give the part of a gradient that belongs to updates of which some are masked."""
    if grad is None:
        return updates
    return jax.tree.map(
        lambda update, leaf: update if is_placeholder(update) else leaf,
        updates,
        grad,
        is_leaf=is_placeholder,
    )


def _needed(
    names: tuple[str, ...], params: Any, extra_args: dict[str, Any]
) -> dict[str, Any]:
    """Read the arguments of `update` that a controller needs, but for the params."""
    if "params" in names and params is None:
        raise ValueError(
            "this controller needs the params: call tx.update(grads, state, params)."
        )
    return {
        name: read_metric(extra_args, name)
        if name == "value"
        else _read_extra(extra_args, name)
        for name in names
        if name != "params"
    }


def _read_extra(extra_args: dict[str, Any], name: str) -> Any:
    if extra_args.get(name) is None:
        raise TypeError(
            f"this controller needs the extra argument `{name}`: call "
            f"tx.update(grads, state, params, {name}=...)."
        )
    return extra_args[name]


def read_metric(extra_args: dict[str, Any], monitor: str | None) -> jax.Array | None:
    """Read what is monitored from the extra arguments, as a float32 scalar."""
    name = OBSERVED if OBSERVED in extra_args else monitor
    if name is None:
        return None
    metric = jnp.asarray(_read_extra(extra_args, name))
    label = "metric" if name == OBSERVED else name
    if jnp.issubdtype(metric.dtype, jnp.complexfloating):
        raise TypeError(f"{label} must be real, got dtype {metric.dtype}.")
    require(
        metric.shape == (),
        f"{label} must be a scalar, got shape {metric.shape}. Take its mean.",
    )
    return metric.astype(jnp.float32)


def _choose(condition: jax.Array, one: Any, other: Any) -> Any:
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), one, other)


def _advanced(state, label, method_state, skipped) -> ControllerState:
    """Enter a method's new state, and note whether and when its rate changed."""
    changed = method_state.learning_rate != state.followed[label].learning_rate
    return ControllerState(
        followed={label: method_state},
        skipped=counters.increment(state.skipped, where=skipped),
        step=state.step,
        changed_at=jnp.where(changed, state.step, state.changed_at),
    )


def _same_controller(node: Any, own: ControllerState) -> bool:
    if not isinstance(node, ControllerState):
        return False
    kinds = [
        {label: type(state) for label, state in controller.followed.items()}
        for controller in (node, own)
    ]
    return kinds[0] == kinds[1]


def _describe(own: ControllerState) -> str:
    ((label, state),) = own.followed.items()
    return f"{type(state).__name__} that listens to {label!r}"
