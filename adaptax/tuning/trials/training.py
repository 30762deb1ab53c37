"""Training: the run that `trial` makes of plain functions."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from adaptax._core import batch_statistics
from adaptax._core.checks import require
from adaptax._core.eval_params import eval_params
from adaptax._core.leaves import steepest
from adaptax.tuning.trials.arguments import (
    as_float32,
    as_loss,
    num_examples,
    optimizer_of,
)
from adaptax.tuning.trials.model_parts import arrays_of, fixed_of, joined, trained_of
from adaptax.tuning.trials.shuffling import batch_indices
from adaptax.tuning.trials.streams import Stream

_REFRESHING = 20
"""The largest number of batches for the statistics of averaged parameters."""


class Shared(NamedTuple):
    """The values shared by all members of a population.

    `data` is the trial's data, stored once for all members; a stream is replaced by its
    batch of the step. `step` is the number of steps so far, an int32 scalar that is not
    batched under `vmap`.
    """

    data: Any
    step: jax.Array


class TrialState(NamedTuple):
    """The state of a trial from `trial`.

    `model_state` has the variables that the loss updates, such as the statistics of
    batch normalization, and `aux` the last step's auxiliary outputs. Either is `()` if
    there is none.
    """

    params: Any
    opt_state: Any
    model_state: Any
    aux: Any
    key: jax.Array
    step: jax.Array


@dataclass(frozen=True, eq=False)
class Training:
    """A training run; `init`, `advance` and `judge` are the functions of its trial.

    The fields are the arguments of `trial`, checked. `data` is the pair of those to
    train on and those for the score.
    """

    init_params: Callable[[jax.Array], Any]
    loss: Callable[..., Any]
    optimizer: Callable[[Any], optax.GradientTransformation]
    data: tuple[Any, Any]
    batch_size: int | None
    evaluate: Callable[..., Any] | None
    shares_batches: bool
    has_state: bool
    has_key: bool
    has_aux: bool
    _stream: jax.Array = field(default_factory=lambda: jax.random.key(0), init=False)
    _fixed_parts: list[Any] = field(default_factory=list, init=False)

    def init(self, hparams: Any, key: jax.Array, shared: Shared | None = None) -> Any:
        """Return the state before the first step."""
        shared = shared or Shared(self._data_at(0), jnp.int32(0))
        params, model_state = self._model(jax.random.fold_in(key, 0))
        trained = trained_of(params)
        some = bool(jax.tree.leaves(trained))
        require(
            some or not jax.tree.leaves((params, self._fixed)),
            "init_params must return some parameters that can be trained: arrays of "
            "floating-point or complex numbers.",
        )
        state = TrialState(
            params,
            optimizer_of(self.optimizer, hparams).init(trained),
            model_state,
            (),
            jax.random.fold_in(key, 1),
            jnp.zeros((), jnp.int32),
        )
        batch = self._batch(state, state.step, shared.data[0])
        aux = jax.eval_shape(self._measure, params, model_state, batch, key)[1][1]
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), aux)
        return state._replace(aux=nothing)

    def advance(
        self, hparams: Any, state: Any, num_steps: int, shared: Shared | None = None
    ) -> tuple[Any, jax.Array]:
        """Train, and return the state and the loss of each step."""
        offsets = jnp.arange(num_steps, dtype=jnp.int32)
        if shared is None and self._is_stream:
            return self._follow(hparams, state, offsets)
        require(
            num_steps == 1 or not self._is_stream,
            f"num_steps must be 1 with the batch of a stream, got {num_steps}.",
        )
        shared = shared or Shared(self.data, state.step)

        def on_step(state, offset):
            now = shared._replace(step=shared.step + offset)
            return self._take_step(hparams, state, now)

        return jax.lax.scan(on_step, state, offsets)

    def judge(self, hparams: Any, state: Any, shared: Shared | None = None) -> Any:
        """Return the score, or the score and metrics."""
        del hparams
        held_out = self.data[1] if shared is None else shared.data[1]
        if not isinstance(held_out, Stream):
            return self._judge_on(state, held_out, shared)
        found = [
            self._judge_on(state, batch, shared) for batch in held_out.pass_through()
        ]
        return jax.tree.map(lambda *scores: sum(scores) / len(scores), *found)

    def _judge_on(self, state, held_out, shared):
        params = eval_params(state.opt_state, state.params)
        model_state = state.model_state
        if self.has_state and params is not state.params:
            arrays = (shared or Shared(self._data_at(0), state.step)).data[0]
            model_state = self._refreshed(params, state, arrays)
        if self.evaluate is None:
            return self._measure(params, model_state, held_out, None)[0]
        params = joined(params, self._fixed)
        arguments = (params, model_state) if self.has_state else (params,)
        return self.evaluate(*arguments, held_out)

    def _refreshed(self, params, state, arrays):
        """Return the model's state with batch statistics of averaged parameters."""
        batches = _REFRESHING
        if self.batch_size is not None:
            batches = min(batches, -(-num_examples(arrays) // self.batch_size))
        elif not self.has_key:
            batches = 1  # of the same examples
        layers = []

        def on_batch(model_state, count):
            batch = self._batch(state, count, arrays)
            key = jax.random.fold_in(jax.random.fold_in(state.key, 2), count)
            with batch_statistics.averaging(count) as now:
                _, (changed, _) = self._measure(params, model_state, batch, key)
            layers.extend(now.layers)
            return changed, None

        counts = jnp.arange(batches, dtype=jnp.int32)
        refreshed, _ = jax.lax.scan(on_batch, state.model_state, counts)
        return refreshed if layers else state.model_state

    def _model(self, key):
        """Return the arrays of a new model, and its state."""
        initial = self.init_params(key)
        model, model_state = initial if self.has_state else (initial, ())
        if not self._fixed_parts:
            self._fixed_parts.append(fixed_of(model))
        return arrays_of(model), model_state

    @property
    def _fixed(self):
        """The fixed part of the model, known once one has been made."""
        if not self._fixed_parts:
            jax.eval_shape(self._model, jax.random.key(0))
        return self._fixed_parts[0]

    @property
    def _is_stream(self) -> bool:
        return isinstance(self.data[0], Stream)

    def _data_at(self, step):
        """Return the data with the batch of a step, of a trial that is run by hand."""
        train, held_out = self.data
        return (train.read(step, 1)[0] if self._is_stream else train), held_out

    def _follow(self, hparams, state, offsets):
        """Train on the batches of a stream, which are read now."""
        require(
            not isinstance(state.step, Tracer),
            "the batches of a stream cannot be read inside of jit or vmap. Call "
            "advance outside, or for one step with its batch: "
            "shared=adaptax.Shared((batch, eval_data), step).",
        )
        start = int(state.step)
        batches = self.data[0].read(start, len(offsets))
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *batches)

        def on_step(state, at):
            offset, batch = at
            now = Shared((batch, self.data[1]), jnp.int32(start) + offset)
            return self._take_step(hparams, state, now)

        return jax.lax.scan(on_step, state, (offsets, stacked))

    def _batch(self, state, step, arrays):
        if self.batch_size is None:
            return arrays
        key = self._stream if self.shares_batches else state.key
        size, key = num_examples(arrays), jax.random.fold_in(key, 0)
        rows = batch_indices(step, size, self.batch_size, key)
        return jax.tree.map(lambda array: jnp.asarray(array)[rows], arrays)

    def _measure(self, params, model_state, batch, key):
        """Return the loss, and the pair of the model's state and the auxiliary dict."""
        params = joined(params, self._fixed)
        arguments = (params, model_state, batch) if self.has_state else (params, batch)
        found: Any = (
            self.loss(*arguments, key) if self.has_key else self.loss(*arguments)
        )
        if not (self.has_state or self.has_aux):
            found = (found, ())
        value, aux = found
        if self.has_state:
            model_state, aux = aux if self.has_aux else (aux, ())
        return as_loss(value), (model_state, jax.tree.map(as_float32, aux))

    def _take_step(self, hparams, state, shared):
        step = shared.step if self.shares_batches else state.step
        batch = self._batch(state, step, shared.data[0])
        noise = jax.random.fold_in(jax.random.fold_in(state.key, 1), state.step)

        def of_trained(trained):
            params = joined(trained, state.params)
            return self._measure(params, state.model_state, batch, noise)

        def value_fn(params, grad_fn=None):
            del grad_fn  # Optax's line searches refuse what this function does not take
            return of_trained(params)[0]

        trained = trained_of(state.params)
        (value, (model_state, aux)), grads = jax.value_and_grad(
            of_trained, has_aux=True
        )(trained)
        grads = steepest(grads)
        updates, opt_state = optimizer_of(self.optimizer, hparams).update(
            grads,
            state.opt_state,
            trained,
            value=value,
            grad=grads,
            value_fn=value_fn,
            grad_fn=lambda params: steepest(jax.grad(value_fn)(params)),
        )
        params = joined(optax.apply_updates(trained, updates), state.params)
        state = TrialState(
            params, opt_state, model_state, aux, state.key, state.step + 1
        )
        return state, value.astype(jnp.float32)
