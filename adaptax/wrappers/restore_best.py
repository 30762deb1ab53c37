"""Restore best: at a cut of the rate, return to the best parameters so far.

    w* ← w where the controller's best metric improves
    scale cut:   w ← w*,   the inner state is reset
    otherwise:   w ← w + scale · u

The controller, such as `reduce_on_plateau`, decides what is better and when to cut. A
cut at the smallest scale changes nothing, and the parameters stay.

Source: Keras, `keras.callbacks.EarlyStopping(restore_best_weights=True)`, which returns
when training ends; here training continues from there at the lower rate.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptax._core import checks, counters, snapshots
from adaptax._core.following import Controller
from adaptax._core.guards import guarded
from adaptax._core.leaves import chosen
from adaptax._core.methods import Method
from adaptax._core.metrics import UNSEEN
from adaptax._core.scaling import scale_updates
from adaptax._core.words import translating
from adaptax.controllers.reduce_on_plateau import reduce_on_plateau


class RestoreBestState(NamedTuple):
    """The state of `restore_best`.

    `best` is the controller's metric at `saved_params`, as minimized. `scale` is the
    controller's scale at the last update, to detect a cut. `returning` is true from a
    cut to the next step, and `restores` counts the returns.
    """

    best: jax.Array
    scale: jax.Array
    returning: jax.Array
    restores: jax.Array
    saved_params: optax.Params
    controller_state: optax.OptState
    inner_state: optax.OptState


@translating
def restore_best(
    inner: optax.GradientTransformation,
    controller: Controller | None = None,
    *,
    restart: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Scale the updates by a controller, and return to the best when it cuts.

    The update at a cut leads to the saved parameters, and takes no step. It leads to
    w + (w* − w), which may differ from w* by rounding. If w is very far, the return
    takes another call, and the remaining difference is added to the next update (see
    `adaptax._core.snapshots`). No update leads back from parameters that are not
    finite: put `spike_guard` inside.

    The first metric after a return is not passed to the controller: it could only count
    as no improvement. A metric passed to `controller.observe` between two updates
    belongs to the parameters of the second.

    Args:
        inner: The optimizer whose steps are scaled.
        controller: The controller; `None` for `reduce_on_plateau()`. Its state must
            have the field `best`.
        restart: Continue after a cut with a new inner state, except for its rates
            (schedules, controllers). Otherwise the inner state stays as it is.
            Structural.

    Raises:
        TypeError: If the controller's state has no `best`; at `update`, if the extra
            argument that it monitors is missing.
        ValueError: At `update`, if `params` is missing.

    >>> import adaptax
    >>> plateau = adaptax.reduce_on_plateau(factor=0.5, patience=0)
    >>> optimizer = restore_best(adaptax.gradient_descent(1.0), plateau)
    >>> w, state, path = jnp.asarray(0.0), optimizer.init(0.0), []
    >>> for loss in (1.0, 3.0, 1.0):
    ...     updates, state = optimizer.update(-1.0, state, w, value=loss)
    ...     w = w + updates
    ...     path.append(float(w))
    >>> path
    [1.0, 0.0, 0.5]
    """
    controller = reduce_on_plateau() if controller is None else controller
    _require_best(controller)
    inner = optax.with_extra_args_support(inner)

    def init(params):
        method = _method(controller.init(params))
        return RestoreBestState(
            best=method.best,
            scale=method.learning_rate,
            returning=jnp.zeros((), bool),
            restores=counters.zero(),
            saved_params=snapshots.empty(params),
            controller_state=controller.init(params),
            inner_state=inner.init(params),
        )

    def update(updates, state, params=None, **extra_args):
        params = checks.required_params(params, "restore_best", more=", value=...")
        stepped, inner_state = inner.update(
            updates, state.inner_state, params, **extra_args
        )
        _, controller_state = controller.update(
            stepped, state.controller_state, params, **extra_args
        )
        observed = ~state.returning
        controller_state = chosen(observed, controller_state, state.controller_state)
        method = _method(controller_state)
        only_one = controller_state.usual.seen == 1
        anew = observed & only_one & (method.best != state.best)
        saved = snapshots.take(
            observed & (method.best < state.best) | anew, params, state.saved_params
        )
        best = jnp.where(anew, method.best, jnp.minimum(method.best, state.best))
        cut = observed & (best < UNSEEN) & (method.learning_rate < state.scale)
        leaving = cut | (state.returning & ~snapshots.is_reached(params, saved))

        back = snapshots.updates_to(saved, params, updates)
        rest = snapshots.zeros_unless(state.returning, back)
        stepped = scale_updates(stepped, method.learning_rate)
        if restart:
            fresh = inner.init(snapshots.at(params, saved))
            left = snapshots.restarted(state.inner_state, fresh)
        else:
            left = state.inner_state
        state = RestoreBestState(
            best=best,
            scale=method.learning_rate,
            returning=leaving,
            restores=counters.increment(state.restores, where=cut),
            saved_params=saved,
            controller_state=controller_state,
            inner_state=chosen(~leaving, inner_state, left),
        )
        return chosen(~leaving, snapshots.added(stepped, rest), back), state

    return guarded(optax.GradientTransformationExtraArgs(init, update), whole=True)


def _require_best(controller: Controller) -> None:
    followed = jax.eval_shape(controller.init, ()).followed
    if not all(hasattr(state, "best") for state in followed.values()):
        raise TypeError(
            f"restore_best needs a controller whose state has the field `best`, such "
            f"as reduce_on_plateau, got one with {list(followed.values())}."
        )


def _method(controller_state: Any) -> Any:
    (method,) = controller_state.followed.values()
    return method


METHOD = Method(
    {"learning_rate": 0.1},
    source="Keras, `keras.callbacks.EarlyStopping(restore_best_weights=True)`",
    variants=({"restart": False},),
    needs=frozenset({"params", "value"}),
    differs="Optax does not go back.",
)
