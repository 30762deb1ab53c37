"""Phases: a warm-up, then a controller, then a cool-down.

    scale = warmup(t) · c₀             t < w           c₀: the controller's first rate
    scale = c(t)                       from t = w      c follows what training reports
    scale = cooldown(t − s) · c(s)     from t = s      c(s): the controller's last rate

t is the step from 0. The cool-down starts at s: a given step, or the one at which an
`adaptax.early_stop` among the controllers converges.

Source: warm-up as in Goyal et al. (2017), "Accurate, Large Minibatch SGD: Training
ImageNet in 1 Hour"; the cool-down as in Hu et al. (2024), "MiniCPM". PyTorch, Keras and
Optax cannot start a schedule from the last rate of a plateau scheduler.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from adaptax._core import checks, counters
from adaptax._core.checks import Scalar
from adaptax._core.extra_args import OBSERVED
from adaptax._core.following import Controller, ControllerState, started
from adaptax._core.guards import guarded
from adaptax._core.methods import Method
from adaptax._core.metrics import whole
from adaptax._core.rates import LearningRate, as_rate
from adaptax._core.scaling import scale_updates
from adaptax._core.schedule import Schedule, as_schedule
from adaptax._core.words import translating
from adaptax.controllers.early_stop import convergences
from adaptax.controllers.reduce_on_plateau import reduce_on_plateau


class PhasesState(NamedTuple):
    """The state of `phases`.

    `learning_rate` is the factor of the warm-up or cool-down, 1 in between, which
    multiplies the rates of `inner`; `adaptax.learning_rate` returns the product.
    `phase` is 0, 1 or 2 for warm-up, controller and cool-down, and `entered` its first
    step. `inner` has the state of each controller.
    """

    learning_rate: jax.Array
    phase: jax.Array
    entered: jax.Array
    inner: tuple[ControllerState, ...]

    def has_unit(self) -> bool:
        """Return True: a rate by itself; see `adaptax._core.seats`."""
        return True


@translating
def phases(
    warmup: LearningRate,
    controller: Controller | Sequence[Controller],
    cooldown: LearningRate,
    warmup_steps: Scalar,
    cooldown_at: Scalar | None = None,
    *,
    name: str | None = None,
) -> Controller:
    """Warm up, follow a controller, and cool down from its last rate.

    The controller receives no metrics before the warm-up ends or after the cool-down
    starts. It can be observed through this rate or by its own `observe`; the latter
    reaches it in every phase.

    Args:
        warmup: A schedule, or a function of the step, for the warm-up: a factor of the
            other rates, usually rising to 1.
        controller: The controller, or several whose rates multiply, such as a plateau
            and an `early_stop`. Each monitors its own metric.
        cooldown: A schedule, or a function of the steps since the cool-down started: a
            factor of the controller's last rate, usually falling from 1.
        warmup_steps: w >= 0, the steps of the warm-up.
        cooldown_at: The step at which the cool-down starts at the latest, >= w; with
            `None`, only the controller starts it.
        name: Distinguishes two such rates for `observe`.

    Raises:
        TypeError: If an argument has the wrong type; at `update`, if an extra argument
            that a controller monitors is missing.

    >>> import adaptax
    >>> rate = phases(
    ...     adaptax.linear(0.25, total_steps=3, end=1.0),
    ...     [
    ...         adaptax.reduce_on_plateau(0.5, patience=0),
    ...         adaptax.early_stop(patience=1),
    ...     ],
    ...     adaptax.linear(1.0, total_steps=4),
    ...     warmup_steps=3,
    ... )
    >>> state, scales = rate.init(None), []
    >>> for loss in (9.0, 9.0, 9.0, 3.0, 3.0, 2.0, 2.0, 2.0, 1.0):
    ...     scale, state = rate.update(1.0, state, value=loss)
    ...     scales.append(float(scale))
    >>> scales
    [0.25, 0.5, 0.75, 1.0, 0.5, 0.5, 0.25, 0.125, 0.09375]
    """
    rise, fall = _schedule("warmup", warmup), _schedule("cooldown", cooldown)
    controllers = _listed(controller)
    checks.count("warmup_steps", warmup_steps)
    if cooldown_at is not None:
        checks.count("cooldown_at", cooldown_at)
        checks.at_most("warmup_steps", warmup_steps, "cooldown_at", cooldown_at)
    label = name or "phases"

    def init(params):
        state = PhasesState(
            learning_rate=jnp.where(whole(warmup_steps) > 0, rise(0), 1),
            phase=counters.zero(),
            entered=counters.zero(),
            inner=tuple(cast(Any, one.init(params)) for one in controllers),
        )
        return started(label, state)

    def update(updates, state, params=None, **extra_args):
        before = state.followed[label]
        warm, late = state.step >= whole(warmup_steps), is_late(state.step)
        active = warm & ~late & (before.phase < 2)
        inner = tuple(
            _advanced(one, updates, own, params, extra_args, active)
            for one, own in zip(controllers, before.inner, strict=True)
        )
        after = before._replace(inner=inner)
        if OBSERVED not in extra_args:
            ended = late | (before.phase == 2) | (warm & _stops(inner))
            phase = jnp.where(ended, 2, warm.astype(jnp.int32))
            after = entered(after, state.step, phase)
        changed = _rate(after) != _rate(before)
        skipped = jnp.stack([state.skipped, *(own.skipped for own in inner)])
        state = ControllerState(
            followed={label: after},
            skipped=skipped.max(),
            step=counters.increment(state.step, where=OBSERVED not in extra_args),
            changed_at=jnp.where(changed, state.step, state.changed_at),
            usual=state.usual,  # each controller judges its own metrics
        )
        return scale_updates(updates, _rate(after)), state

    def is_late(step):
        return step >= whole(cooldown_at) if cooldown_at is not None else step < 0

    def entered(state, step, phase):
        since = jnp.where(phase == state.phase, state.entered, step)
        factor = jnp.where(phase == 0, rise(step), 1)
        factor = jnp.where(phase == 2, fall(step - since), factor)
        return state._replace(learning_rate=factor, phase=phase, entered=since)

    return guarded(Controller(init, update), whole=True)


def _schedule(name: str, value: LearningRate) -> Schedule:
    foreign = isinstance(value, tuple | list) and not isinstance(value, Schedule)
    schedule = None if foreign else as_rate(value)
    if not isinstance(schedule, Schedule):
        raise TypeError(f"{name} must be a schedule, got {value!r}.")
    return schedule


def _listed(controllers: Controller | Sequence[Controller]) -> tuple[Controller, ...]:
    single = isinstance(controllers, Controller)
    listed = (controllers,) if single else tuple(controllers)
    for one in listed:
        if not isinstance(one, Controller):
            raise TypeError(f"controller must be a controller or several, got {one!r}.")
    if not listed:
        raise TypeError("controller must be at least one controller, got none.")
    return cast(tuple[Controller, ...], listed)


def _advanced(
    controller, updates, state, params, extra_args, active
) -> ControllerState:
    """Advance a controller in its own phase; its steps count in every phase."""
    _, after = controller.update(updates, state, params, **extra_args)
    before = state._replace(step=after.step)
    return jax.tree.map(lambda new, old: jnp.where(active, new, old), after, before)


def _stops(inner: tuple[ControllerState, ...]) -> jax.Array:
    return jnp.stack([*convergences(inner), jnp.zeros((), bool)]).any()


def _rate(state: PhasesState) -> jax.Array:
    """Return the product of all rates in a state."""
    leaves: Any = jax.tree.leaves_with_path(state)
    rates = [leaf for path, leaf in leaves if path[-1] == _LEARNING_RATE]
    return jnp.stack(rates).prod()


_LEARNING_RATE = jax.tree_util.GetAttrKey("learning_rate")


METHOD = Method(
    {
        "warmup": as_schedule(optax.linear_schedule(0.2, 1.0, 6)),
        "controller": reduce_on_plateau(0.5, patience=1),
        "cooldown": as_schedule(optax.linear_schedule(1.0, 0.1, 20)),
        "warmup_steps": 6,
        "cooldown_at": 32,
    },
    source="Hu et al. (2024)",
    needs=frozenset({"value"}),
    differs="Optax has no cool-down from where a plateau leaves the rate.",
)
