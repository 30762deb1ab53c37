"""A Flax `TrainState` that passes the loss on to the optimizer.

The `apply_gradients` of Flax's own calls `tx.update(grads, opt_state, params)`, and
puts everything else that it is given into fields of the state: `value=loss` does not
reach the optimizer. Here it does:

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
    """Flax's `TrainState`, whose `apply_gradients` hands extra arguments on.

    It is made by `create`, extended by subclasses and saved as Flax's own is.

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
            kwargs: Where a name is that of a field of the state, such as the
                `batch_stats` of a subclass, the field is replaced, as in Flax. All
                others are extra arguments of `tx.update`: `value`, `grad_fn`, ...

        Returns:
            The state after the step, with `step` one higher.

        Raises:
            TypeError: If a name is no field, but so much like one that it seems to be
                misspelt: an optimizer would ignore it.
        """
        fields = [field.name for field in dataclasses.fields(self)]
        replaced = {name: kwargs.pop(name) for name in fields if name in kwargs}
        for name in kwargs:
            meant = difflib.get_close_matches(name, fields, n=1, cutoff=0.8)
            if meant:
                raise TypeError(
                    f"apply_gradients got {name!r}, which is no field of "
                    f"{type(self).__name__}. Did you mean {meant[0]!r}? An extra "
                    "argument of the optimizer needs a name less like a field's."
                )
        tx = optax.with_extra_args_support(self.tx)

        def update(updates, state, params=None):
            return tx.update(updates, state, params, **kwargs)

        told = self.replace(tx=optax.GradientTransformation(tx.init, update))
        state = super(TrainState, told).apply_gradients(grads=grads, **replaced)
        return state.replace(tx=replaced.get("tx", self.tx))
