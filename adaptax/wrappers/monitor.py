"""Monitor: record the norms of gradients, updates and parameters."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptax._core import checks, counters
from adaptax._core.fusion import once
from adaptax._core.guards import guarded
from adaptax._core.leaves import global_norm, trained_leaves, widened
from adaptax._core.methods import Method
from adaptax._core.usable_gradients import usable
from adaptax._core.varying import axes_of, spread
from adaptax._core.words import translating


class MonitorState(NamedTuple):
    """The norms of the last step: float32 scalars, initially 0.

    `invalid` counts the steps with a norm that was not finite; that norm and the ratio
    are then the previous ones. `stalled` counts the steps without any usable element of
    the gradient: one that is finite, with a finite square.
    """

    gradient_norm: jax.Array
    update_norm: jax.Array
    parameter_norm: jax.Array
    update_to_parameter_ratio: jax.Array
    invalid: jax.Array
    stalled: jax.Array
    inner_state: optax.OptState


@translating
def monitor(
    inner: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """Record the norms of gradients, updates and parameters of any transformation.

        ‖g‖, ‖u‖, ‖w‖  and  ‖u‖ / ‖w‖  (0 where ‖w‖ = 0)

    They are L2 norms over all leaves, in float32, of the updates g that enter `inner`,
    the updates u that leave it, and the parameters w before the step. In a healthy run
    the ratio is near 1e-3. Steps without any usable element of the gradient are counted
    too, as happen with a loss scale that is too large.

    Source: A. Karpathy (2015), CS231n notes, "Ratio of weights:updates".

    Args:
        inner: The transformation to measure; its results do not change.

    Raises:
        ValueError: At `update`, if `params` is missing.
    """
    inner = optax.with_extra_args_support(inner)

    def init(params):
        norms = (jnp.zeros((), jnp.float32) for _ in range(4))
        measured = spread((*norms, counters.zero(), counters.zero()), axes_of(params))
        return MonitorState(*measured, inner_state=inner.init(params))

    def update(updates, state, params=None, **extra_args):
        params = checks.required_params(params, "monitor")
        gradient_norm = global_norm(updates)
        stalled = counters.increment(state.stalled, where=_none_usable(updates))
        updates, inner_state = inner.update(
            updates, state.inner_state, params, **extra_args
        )
        parameter_norm = global_norm(params)
        updates = once(updates, after=parameter_norm)
        update_norm = global_norm(updates)
        nonzero = jnp.where(parameter_norm > 0, parameter_norm, 1)
        ratio = jnp.where(parameter_norm > 0, update_norm / nonzero, 0)
        measured = jnp.stack([gradient_norm, update_norm, parameter_norm, ratio])
        finite = jnp.isfinite(measured)
        kept = jnp.where(finite, measured, jnp.stack(state[:4]))
        invalid = counters.increment(state.invalid, where=~finite.all())
        return updates, MonitorState(
            *kept, invalid=invalid, stalled=stalled, inner_state=inner_state
        )

    return guarded(optax.GradientTransformationExtraArgs(init, update))


def _none_usable(updates: optax.Updates) -> jax.Array:
    """Return whether there are gradients, but none has a usable element."""
    leaves = filter(jnp.size, trained_leaves(updates))
    found = [usable(widened(leaf)).any() for leaf in leaves]
    return ~jnp.stack(found).any() if found else jnp.zeros((), bool)


METHOD = Method(
    {"learning_rate": 0.1},
    source="A. Karpathy (2015)",
    needs=frozenset({"params"}),
)
