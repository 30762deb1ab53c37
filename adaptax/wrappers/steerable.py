"""Steerable: a rate that takes orders while training runs, from the next step on.

    cool down at s:   η_t = η_end + (η_now − η_end) g(x),   x = min((t − s)/n, 1)
    hold at s:        η_t = η_now
    otherwise:        η_t = η(τ(t))

    τ(t) = t;   stretched at s:   τ(t) = τ(s) + (t − s) (T − τ(s))/(T′ − s)   t <= T′

η_now is the rate applied at the last step before s, and η(τ) that of the schedule, the
controllers and the estimates inside, all of which go on while a cool-down or a hold is
in force. T is the number of steps of the schedule, T′ the new one, and τ its clock; at
fractions of a step the rate is linear between two steps. The shapes g are those of
`warmup_stable_decay`, which a cool-down of a constant rate equals.

The orders are `cool_down`, `hold`, `release` and `stretch_run`. They are numbers in the
state: they change no program, and a checkpoint keeps them.

Source: Hägele, Bakouch, Kosson, Ben Allal, Von Werra & Jaggi (2024), "Scaling Laws and
Compute-Optimal Training Beyond Fixed Training Durations", NeurIPS (arXiv 2405.18392):
runs of many lengths are cool-downs of one trunk, and 1 − √x was the best of the shapes.
"""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adaptax._core import checks, counters
from adaptax._core.checks import Scalar, require
from adaptax._core.following import ControllerState
from adaptax._core.guards import guarded
from adaptax._core.kept_rates import KeptRate, kept_rates
from adaptax._core.methods import Method
from adaptax._core.rates import LearningRate, Rate, as_rate
from adaptax._core.scalars import real
from adaptax._core.scaling import scale_updates
from adaptax._core.schedule import SHIFT, ConstantState, Schedule, ScheduleState, Shift
from adaptax._core.seats import units_in
from adaptax._core.words import argument, translating
from adaptax.schedules.curves import FALLS, Fall, between
from adaptax.schedules.periods import elapsed


class Order(NamedTuple):
    """From `start` to `end` in `num_steps` steps after the step `since`, if `given`.

    `shape` is the index of the shape in `FALLS`. A hold has `start` = `end`.
    """

    given: jax.Array
    since: jax.Array
    num_steps: jax.Array
    start: jax.Array
    end: jax.Array
    shape: jax.Array

    def rate(self, step: jax.Array) -> jax.Array:
        """Return the rate at a step."""
        part = elapsed(step - self.since, 0, self.num_steps)
        left = jnp.stack([fall(part) for fall in FALLS.values()])
        return between(self.end, self.start, left[self.shape])


class Clock(NamedTuple):
    """At the step `since`, the schedule is `steps + part` steps ahead of the run.

    It reaches `total_steps` after `rest` steps; where `rest` is 0, it keeps pace.
    """

    since: jax.Array
    steps: jax.Array
    part: jax.Array
    rest: jax.Array
    total_steps: jax.Array

    def at(self, step: jax.Array) -> Shift:
        """Return how far the schedule is ahead at a step."""
        passed = jnp.maximum(step - self.since, 0)
        own_rest = self.total_steps - self.since - self.steps
        gain = real(own_rest - self.rest) - self.part
        ahead = self.part + gain * real(passed) / real(jnp.maximum(self.rest, 1))
        whole = jnp.floor(ahead)
        changed, ended = self.rest > 0, passed >= self.rest
        gained = jnp.where(ended, own_rest - self.rest, whole.astype(jnp.int32))
        return Shift(
            self.steps + jnp.where(changed, gained, 0),
            jnp.where(changed, jnp.where(ended, 0, ahead - whole), self.part),
        )

    def rests(self, step: jax.Array) -> jax.Array:
        """Return whether the schedule has steps left at a step of the run."""
        return step + self.at(step).steps < self.total_steps


class SteerableState(NamedTuple):
    """The state of `steerable`.

    `step` is the index of the next update, from 0, and `learning_rate` the last rate
    applied; before the first update, the first one. `order` is the order in force,
    `clock` the schedule's, `None` where its length is not known, and `rate` the state
    of the rate inside.
    """

    step: jax.Array
    learning_rate: jax.Array
    order: Order
    clock: Clock | None
    rate: optax.OptState

    def has_unit(self) -> bool:
        """Return True: a rate by itself; see `adaptax._core.seats`."""
        return True

    def takes_orders(self) -> bool:
        """Return True; see `adaptax._core.kept_rates`."""
        return True

    def towards(self, end: Any, num_steps: Any, shape: Fall) -> "SteerableState":
        """Return the state with the order to go from the present rate to another."""
        order = Order(
            given=jnp.ones((), bool),
            since=self.step,
            num_steps=_counter(num_steps),
            start=self.learning_rate,
            end=real(end),
            shape=jnp.asarray(list(FALLS).index(shape), jnp.int32),
        )
        return self._replace(order=order)

    def held(self) -> "SteerableState":
        """Return the state with the order to keep the present rate."""
        return self.towards(self.learning_rate, 1, "linear")

    def released(self) -> "SteerableState":
        """Return the state without its order."""
        return self._replace(order=self.order._replace(given=jnp.zeros((), bool)))

    def stretched(self, total_steps: Any) -> "SteerableState":
        """Return the state with the rest of the schedule spread over a new rest.

        A schedule that is over stays as it is.
        """
        if self.clock is None:
            return self
        steps, part = self.clock.at(self.step)
        rest = jnp.maximum(_counter(total_steps) - self.step, 1)
        clock = Clock(
            since=self.step,
            steps=steps,
            part=part,
            rest=jnp.where(self.clock.rests(self.step), rest, 0),
            total_steps=self.clock.total_steps,
        )
        return self._replace(clock=clock)


@translating
def steerable(
    learning_rate: LearningRate, *, total_steps: Scalar | None = None
) -> Rate:
    """Let a learning rate take orders while training runs.

    Without an order it is the rate inside. While a cool-down or a hold is in force, the
    rate inside goes on unused: its controllers receive the loss, and its schedules the
    steps. The order overrides all of them, `early_stop` included, but no rate beside
    this one. An estimate among them still skips the steps that it cannot use, and where
    it is there, a rate of 0 inside stays 0.

    Args:
        learning_rate: Anything that `descend` takes: a number, a function of the step,
            a schedule, a controller, an estimate or a list of these.
        total_steps: T >= 1, the steps of the schedule inside, for `stretch_run`. By
            default those of the one schedule of adaptax among `learning_rate` that has
            an argument `total_steps`. Whether it is known is structural.

    Raises:
        TypeError: If `learning_rate` is none of these.
        ValueError: If `learning_rate` is not a rate; at `init`, if it cannot be read
            from its state, as with `optax.scale`.

    >>> import adaptax
    >>> rate = steerable(adaptax.linear(1.0, total_steps=4))
    >>> optimizer = adaptax.gradient_descent(rate)
    >>> state, rates = optimizer.init(0.0), []
    >>> for step in range(5):
    ...     if step == 2:
    ...         state = adaptax.cool_down(state, num_steps=2, shape="linear")
    ...     _, state = optimizer.update(1.0, state, 0.0)
    ...     rates.append(float(adaptax.learning_rate(state)))
    >>> rates
    [1.0, 0.75, 0.75, 0.375, 0.0]
    """
    inner = as_rate(learning_rate, needs_unit=True)
    if total_steps is None:
        total_steps = _length(learning_rate)
    else:
        checks.steps("total_steps", total_steps, at_least=1)

    def clock():
        if total_steps is None:
            return None
        still = (counters.zero(), counters.zero(), real(0.0), counters.zero())
        return Clock(*still, _counter(total_steps))

    def init(params) -> Any:
        rate_state = inner.init(params)
        _require_readable(rate_state)
        rate = jnp.array(kept_rates(rate_state).product, jnp.float32)
        none = Order(
            given=jnp.zeros((), bool),
            since=counters.zero(),
            num_steps=counters.zero(),
            start=real(0.0),
            end=real(0.0),
            shape=counters.zero(),
        )
        return SteerableState(counters.zero(), rate, none, clock(), rate_state)

    def update(updates, state, params=None, **extra_args) -> Any:
        timed = clock()
        if timed is not None:  # the length that counts is the one in the code
            given, kept = timed.total_steps, state.clock.total_steps
            total = jnp.where(given > 0, given, kept)
            timed = state.clock._replace(total_steps=total)
            extra_args = {**extra_args, SHIFT: timed.at(state.step)}
        scaled, rate_state = inner.update(updates, state.rate, params, **extra_args)
        inside = kept_rates(rate_state).product
        inside = jnp.where(jnp.isfinite(inside), inside, state.learning_rate)
        rate = jnp.where(state.order.given, state.order.rate(state.step), inside)
        if _only_scales(rate_state):
            scaled = scale_updates(updates, rate)
        else:  # it may skip a step, or differ between leaves: scale what it returns
            ratio = rate / jnp.where(inside > 0, inside, 1)
            steered = state.order.given & (inside > 0) & jnp.isfinite(ratio)
            rate = jnp.where(steered, rate, inside)
            scaled = scale_updates(scaled, jnp.where(steered, ratio, 1))
        step = counters.increment(state.step)
        return scaled, SteerableState(step, rate, state.order, timed, rate_state)

    return guarded(Rate(init, update))


def _counter(number: Any) -> jax.Array:
    """Return a whole number >= 0 as a counter."""
    if isinstance(number, int | float | np.number):
        return jnp.asarray(np.clip(float(number), 0, 2**31 - 1).astype(np.int32))
    return jnp.asarray(number).astype(jnp.int32)


def _length(learning_rate: LearningRate) -> Any:
    """Return the number of steps of the one schedule that has one; otherwise None."""
    several = type(learning_rate) in (list, tuple)
    members = cast(Any, learning_rate if several else [learning_rate])
    schedules = [member for member in members if isinstance(member, Schedule)]
    lengths = [argument(schedule, "total_steps") for schedule in schedules]
    known = [length for length in lengths if length is not None]
    return known[0] if len(known) == 1 else None


def _only_scales(state: Any) -> bool:
    """Return whether each rate in a state multiplies every update by one number."""
    if isinstance(state, ScheduleState | ConstantState | ControllerState):
        return True
    return type(state) is tuple and all(map(_only_scales, state))


def _require_readable(state: Any) -> None:
    rates = kept_rates(state)
    readable = isinstance(rates, KeptRate) and rates.has_unit and not rates.hidden
    require(
        readable and None not in units_in(state),
        "steerable got a learning rate whose value is not in its state, or several by "
        "label. Make it of numbers, functions of the step, and schedules, controllers "
        "or estimates of adaptax; with optax.partition, of a steerable in each group.",
    )


METHOD = Method(
    {"learning_rate": 0.1, "total_steps": 40},
    source="Hägele, Bakouch, Kosson, Ben Allal, Von Werra & Jaggi (2024)",
    differs="Optax has no orders.",
)
