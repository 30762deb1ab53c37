"""Sweeps that users write by hand."""

import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adaptax.bench.sweep.models import EXAMPLES, Model, random_data, swept_rates


def train_step(model: Model) -> Callable[..., Any]:
    """Return the training step of the hand-written sweeps."""

    def step(rate, carry, batch):
        params, state = carry
        loss, grads = jax.value_and_grad(model.loss)(params, batch)
        updates, state = optax.adam(rate).update(grads, state, params)
        return (optax.apply_updates(params, updates), state), loss

    return step


def first_state(model: Model) -> Callable[[jax.Array], Any]:
    """Return `rate -> (params, opt_state)`, the state before the first step."""

    def start(rate):
        params = model.init(jax.random.key(0))
        return params, optax.adam(rate).init(params)

    return start


def _rows(model: Model, generator: np.random.Generator, steps: int) -> np.ndarray:
    """Draw the batches of a measurement, the same for all members."""
    return generator.integers(0, EXAMPLES, (steps, model.batch_size))


def _step_on_rows(model: Model) -> Callable[..., Any]:
    """Return a step on some rows of data on the device."""
    one = train_step(model)

    def step(rate, carry, data, chosen):
        return one(rate, carry, jax.tree.map(lambda array: array[chosen], data))

    return step


def _by_hand(model: Model, train: Callable[..., Any]) -> Callable[[int], Any]:
    """Compile `train(carries, rates, data, rows)` of all members; return `advance`."""
    rates = jnp.asarray(swept_rates(model))
    data = jax.tree.map(jnp.asarray, random_data())
    generator = np.random.default_rng(0)
    compiled = jax.jit(train, donate_argnums=0)
    carried = [jax.jit(jax.vmap(first_state(model)))(rates)]

    def advance(steps):
        rows = _rows(model, generator, steps)
        carried[0], losses = compiled(carried[0], rates, data, rows)
        return losses

    return advance


def vmap_by_hand(model: Model) -> Callable[[int], Any]:
    """Train all members side by side in one `vmap`."""
    together = jax.vmap(_step_on_rows(model), in_axes=(0, 0, None, None))

    def train(carries, rates, data, rows):
        def step(carries, chosen):
            return together(rates, carries, data, chosen)

        return jax.lax.scan(step, carries, rows)

    return _by_hand(model, train)


def map_by_hand(model: Model) -> Callable[[int], Any]:
    """Train one member after the other in one `lax.map`."""
    one = _step_on_rows(model)

    def train(carries, rates, data, rows):
        def member(arguments):
            carry, rate = arguments
            return jax.lax.scan(
                lambda carry, chosen: one(rate, carry, data, chosen), carry, rows
            )

        return jax.lax.map(member, (carries, rates))

    return _by_hand(model, train)


def python_loop(model: Model) -> Callable[[int], Any]:
    """Train one member after the other, with the data on the device."""
    data, generator = jax.tree.map(jnp.asarray, random_data()), np.random.default_rng(0)
    step = jax.jit(_step_on_rows(model), donate_argnums=1)
    start = jax.jit(first_state(model))
    rates = [jnp.asarray(rate) for rate in swept_rates(model)]  # data: one compilation
    carries = [start(rate) for rate in rates]

    def advance(steps):
        rows = _rows(model, generator, steps)
        for member, rate in enumerate(rates):
            for chosen in rows:
                carries[member], _ = step(rate, carries[member], data, chosen)
        return carries

    return advance


def usual_loop(model: Model) -> Callable[[int], Any]:
    """Train one member after the other, with batches and losses through the host."""
    data, generator, one = random_data(), np.random.default_rng(0), train_step(model)
    step, start = jax.jit(one), jax.jit(first_state(model))
    rates = swept_rates(model)
    carries = [start(rate) for rate in rates]

    def advance(steps):
        rows = _rows(model, generator, steps)
        curves = []
        for member, rate in enumerate(rates):
            for chosen in rows:
                batch = {name: array[chosen] for name, array in data.items()}
                carries[member], loss = step(rate, carries[member], batch)
                curves.append(float(loss))
        return carries

    return advance


def optuna_study(model: Model) -> Callable[[int], Any]:
    """Let Optuna run the Python loop, in a study with one trial for each rate."""
    optuna = importlib.import_module("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    data, generator = jax.tree.map(jnp.asarray, random_data()), np.random.default_rng(0)
    step = jax.jit(_step_on_rows(model), donate_argnums=1)
    begin = jax.jit(first_state(model))
    rates = swept_rates(model).tolist()

    def advance(steps):
        rows = _rows(model, generator, steps)

        def objective(trial):
            rate = jnp.float32(trial.suggest_categorical("rate", rates))
            carry, loss = begin(rate), jnp.inf
            for chosen in rows:
                carry, loss = step(rate, carry, data, chosen)
            return float(loss)

        sampler = optuna.samplers.GridSampler({"rate": rates}, seed=0)
        optuna.create_study(sampler=sampler).optimize(objective, n_trials=len(rates))

    return advance
