"""For Flax: a `TrainState` that passes on the loss, and statistics of averages.

Flax's own `apply_gradients` calls `tx.update(grads, opt_state, params)` and treats all
other arguments as fields of the state, so `value=loss` does not reach the optimizer.
Here it does:

    u, s ← tx.update(g, s, w, value=L),   w ← w + u

Source: Flax, `flax.training.train_state.TrainState`, which needs Flax:
`pip install flax`.
"""

import dataclasses
import difflib
from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import optax

from adaptax._core import batch_statistics
from adaptax._core.checks import require

try:
    from flax import nnx
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


def refresh_statistics(
    statistics: Any,
    batches: Iterable[Any],
    forward: Callable[[Any, Any], Any] | None = None,
) -> Any:
    """Replace the statistics of batch normalizations by those of some batches.

    For parameters that were averaged, such as those of `eval_params`: their statistics
    in the model belong to the trained parameters. Each statistic becomes the plain mean
    of those of the batches, whatever the momentum of its layer.

    Args:
        statistics: A model in NNX, which is changed in place; in Linen, the collection
            `batch_stats`.
        batches: Batches of training data; 10 to 100 are usually enough. Another shape
            is compiled anew.
        forward: In NNX, `forward(model, batch)` calls the model, by default
            `model(batch)`; the model is in train mode, and the result is ignored. In
            Linen, `forward(batch_stats, batch)` returns the changed collection.

    Returns:
        The model, or the new collection. A model without batch normalization is not
        changed.

    Raises:
        TypeError: If `forward` is missing for Linen.
        ValueError: If there are no batches.

    In NNX::

        averaged = adaptax.eval_params(optimizer, model)
        adaptax.flax.refresh_statistics(averaged, batches)

    and in Linen::

        params = adaptax.eval_params(opt_state, params)


        def forward(batch_stats, batch):
            variables = {"params": params, "batch_stats": batch_stats}
            _, changed = model.apply(
                variables, batch, train=True, mutable=["batch_stats"]
            )
            return changed["batch_stats"]


        batch_stats = adaptax.flax.refresh_statistics(batch_stats, batches, forward)
    """
    if isinstance(statistics, nnx.Module):
        return _refresh_module(statistics, batches, forward)
    if not callable(forward):
        raise TypeError(
            "forward must be a function (batch_stats, batch) -> batch_stats for a "
            f"collection of Linen, got {forward!r}."
        )

    @jax.jit
    def on_batch(found, batch, count):
        with batch_statistics.averaging(count):
            return forward(found, batch)

    return _over(batches, statistics, on_batch)


def _refresh_module(
    model: nnx.Module,
    batches: Iterable[Any],
    forward: Callable[[Any, Any], Any] | None,
) -> nnx.Module:
    other = nnx.clone(model)
    other.train()
    layers = batch_statistics.without_momentum(nnx, other)
    graph, variables = nnx.split(other)
    call = forward or (lambda model, batch: model(batch))

    @jax.jit
    def on_batch(found, batch, count):
        used = nnx.merge(graph, found)
        call(used, batch)
        nnx.pop(used, nnx.Intermediate)
        after = nnx.to_pure_dict(nnx.state(used))
        return batch_statistics.averaged(found, after, count, layers)

    found = _over(batches, nnx.to_pure_dict(variables), on_batch)
    own = dict(nnx.iter_modules(model))
    for path in layers:
        statistics = reduce(lambda node, key: node[key], path, found)
        for name in batch_statistics.NAMES:
            getattr(own[path], name)[...] = statistics[name]
    return model


def _over(batches: Iterable[Any], found: Any, on_batch: Callable[..., Any]) -> Any:
    """Return what a function makes of each batch in turn."""
    count = -1
    for count, batch in enumerate(batches):
        found = on_batch(found, batch, jnp.int32(count))
    require(count >= 0, "batches must have at least one batch, got none.")
    return found
