"""Orders to a run under way: cool down, hold, release, stretch.

Each is given to a rate that was made by `adaptax.steerable`, and is found at any depth
of an optimizer's state, a Flax `TrainState` or an `nnx.Optimizer`, inside jit and vmap
or outside. Steps are those of the optimizer, which are fewer than its calls where
gradients are accumulated.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from adaptax._core import checks
from adaptax._core.checks import Scalar
from adaptax._core.kept_rates import Steered, kept_rates
from adaptax._core.scalars import known
from adaptax._core.states import key_of, with_fields, without_variables
from adaptax.schedules.curves import Fall
from adaptax.wrappers.steerable import SteerableState

_S = TypeVar("_S")


def cool_down(
    opt_state: _S, num_steps: Scalar, *, shape: Fall = "sqrt", end: Scalar = 0.0
) -> _S:
    """Order a cool-down, from the present rate to `end`.

    The next step has the rate of the last one, and all steps after the next `num_steps`
    have the rate `end`, until another order. So training ends after `num_steps` steps.
    Before the first step, the present rate is the first one: 0 in a warm-up from 0.

    Args:
        opt_state: The state of an optimizer whose rate is a `steerable`, or a
            container, as in `learning_rate`; the groups of `optax.partition` and the
            members of a container that have one all receive the order. An
            `nnx.Optimizer` is changed in place, and returned.
        num_steps: n >= 1, in steps.
        shape: "linear", "cosine", "mirror_cosine", "sqrt", "square" or "exponential":
            the shapes of `warmup_stable_decay`, here data in the state.
        end: η_end >= 0, the last rate, at most the present one. For a tenth of that,
            give `0.1 * learning_rate(opt_state)`.

    Returns:
        The state with the order, which replaces an earlier one.

    Raises:
        ValueError: If an argument is out of its range, or if no rate is a `steerable`,
            or if several multiply.

    >>> import adaptax
    >>> tx = adaptax.adam(adaptax.steerable(0.5))
    >>> state = cool_down(tx.init(1.0), num_steps=100)
    >>> state = hold(state)
    """
    checks.steps("num_steps", num_steps, at_least=1)
    checks.one_of("shape", shape, Fall)
    checks.rate("end", end)

    def cooled(state):
        rate = state.learning_rate
        if known(end, rate):
            checks.require(
                np.all(np.float32(end) <= np.asarray(rate)),
                f"end must be <= the present rate, got {end} > {rate}: a cool-down "
                "does not raise it.",
            )
        return state.towards(end, num_steps, shape)

    return _ordered(opt_state, cooled)


def hold(opt_state: _S) -> _S:
    """Order the present rate to be kept, until another order.

    What is inside of the `steerable` goes on: after `release`, a schedule is where it
    would be without the hold.

    Args:
        opt_state: As in `cool_down`.

    Returns:
        The state with the order, which replaces an earlier one.

    Raises:
        ValueError: If no rate is a `steerable`, or if several multiply.
    """
    return _ordered(opt_state, lambda state: state.held())


def release(opt_state: _S) -> _S:
    """End a cool-down or a hold: the next step has the rate that is inside.

    A stretched schedule stays so.

    Args:
        opt_state: As in `cool_down`.

    Returns:
        The state without the order.

    Raises:
        ValueError: If no rate is a `steerable`, or if several multiply.
    """
    return _ordered(opt_state, lambda state: state.released())


def stretch_run(opt_state: _S, total_steps: Scalar) -> _S:
    """Order the schedule to end at another step: its rest is spread over the new rest.

    The rate has no jump: from here on the schedule's clock is slower, or faster, so
    that it has run all of its steps after `total_steps` steps of the optimizer. All
    schedules inside of the `steerable` follow this clock, but those of `phases`, which
    have clocks of their own. A cool-down or a hold stays in force.

    Args:
        opt_state: As in `cool_down`. The `steerable` must know the length of its
            schedule, see there.
        total_steps: T′, in steps from the start of the run, more than were taken.

    Returns:
        The state with the order, which replaces an earlier one.

    Raises:
        ValueError: If no rate is a `steerable` that knows the length of its schedule,
            or if several multiply; if `total_steps` is no more than the steps that were
            taken, or if the schedule is over.
    """
    checks.steps("total_steps", total_steps, at_least=1)
    knows = [one.state.clock is not None for one in _steered(opt_state)]
    checks.require(
        any(knows),
        "stretch_run needs the length of the schedule, which its steerable does not "
        "know. Build it with steerable(rate, total_steps=...).",
    )

    def stretched(state):
        if state.clock is not None and known(total_steps, state):
            checks.require(
                np.all(np.asarray(state.step) < float(total_steps)),
                f"total_steps must be more than the {state.step} steps taken so far, "
                f"got {total_steps}. To end the run sooner, use cool_down.",
            )
            checks.require(
                jnp.all(state.clock.rests(state.step)),
                f"the schedule has run all of its {state.clock.total_steps} steps, so "
                "stretch_run has nothing to stretch. Use hold or set_learning_rate.",
            )
        return state.stretched(total_steps)

    return _ordered(opt_state, stretched)


def _ordered(opt_state: _S, order: Callable[[SteerableState], SteerableState]) -> _S:
    """Return the state with an order given to each steerable rate in it."""
    targets = {}
    for one in _steered(opt_state):
        changed = order(one.state)
        fields = {"order": changed.order, "clock": changed.clock}
        for path, leaf in jax.tree.leaves_with_path(fields):
            for place in one.paths:
                # A copy: a step that donates the state must not find a buffer twice.
                targets[(*place, *map(key_of, path))] = jnp.array(leaf)
    return with_fields(opt_state, targets)


def _steered(opt_state: Any) -> list[Steered]:
    """Return the states that take orders, each once.

    Raises:
        ValueError: If there are none, or if several multiply.
    """
    waiting, found = [kept_rates(opt_state)], {}
    for rates in waiting:  # grows in the loop
        if isinstance(rates, dict):
            waiting.extend(rates.values())
        elif rates is not None:
            checks.require(
                len(rates.steered) < 2,
                "this optimizer state has several steerable rates, which multiply. "
                "Build the optimizer with a single one: steerable([one, other]).",
            )
            found.update({one.paths: one for one in rates.steered})
    checks.require(
        len(found) > 0,
        "this optimizer state takes no orders. Build the optimizer with adaptax."
        "steerable around its rate: adaptax.adam(adaptax.steerable(1e-3)).",
    )
    return [one._replace(state=without_variables(one.state)) for one in found.values()]
