"""A Flax `TrainState` that passes the loss to the optimizer.

Flax's own `apply_gradients` calls `tx.update(grads, opt_state, params)` and treats all
other arguments as fields of the state, so `value=loss` does not reach the optimizer.
Here it does:

    u, s ← tx.update(g, s, w, value=L),   w ← w + u

Source: Flax, `flax.training.train_state.TrainState`, which needs Flax:
`pip install flax`.
"""

import dataclasses
import difflib
from typing import Any

import optax

try:
    from flax.training import train_state
except ImportError as error:
    message = "adaptax.flax needs Flax: pip install flax."
    raise ImportError(message) from error


class TrainState(train_state.TrainState):
    """Flax's `TrainState`, with an `apply_gradients` that passes on extra arguments.

    It is created, subclassed and saved like Flax's own.

    >>> import adaptax, jax.numpy as jnp
    >>> state = TrainState.create(
    ...     apply_fn=None,
    ...     params={"w": jnp.ones(2)},
    ...     tx=adaptax.gradient_descent([0.5, adaptax.reduce_on_plateau()]),
    ... )
    >>> state = state.apply_gradients(grads={"w": jnp.ones(2)}, value=1.0)
    >>> state.params["w"]
    Array([0.5, 0.5], dtype=float32)
    """

    def apply_gradients(self, *, grads: Any, **kwargs: Any) -> "TrainState":
        """Take one step.

        Args:
            grads: The gradients, with the structure of `params`.
            kwargs: New values of the state's fields, such as the `batch_stats` of a
                subclass, as in Flax; all others are extra arguments of `tx.update`,
                such as `value` and `grad_fn`.

        Returns:
            The state after the step, with `step` increased by 1.

        Raises:
            TypeError: If a name is similar to that of a field, so that it is probably
                misspelt: an optimizer would ignore it.
        """
        fields = [field.name for field in dataclasses.fields(self)]
        replaced = {name: kwargs.pop(name) for name in fields if name in kwargs}
        for name in kwargs:
            meant = difflib.get_close_matches(name, fields, n=1, cutoff=0.8)
            if meant:
                raise TypeError(
                    f"apply_gradients got {name!r}, which is not a field of "
                    f"{type(self).__name__}. Did you mean {meant[0]!r}? An extra "
                    "argument of the optimizer needs a name less like a field's."
                )
        tx = optax.with_extra_args_support(self.tx)

        def update(updates, state, params=None):
            return tx.update(updates, state, params, **kwargs)

        # Flax calls update without extra arguments, so bind them for this step.
        bound = self.replace(tx=optax.GradientTransformation(tx.init, update))
        state = super(TrainState, bound).apply_gradients(grads=grads, **replaced)
        return state.replace(tx=replaced.get("tx", self.tx))
