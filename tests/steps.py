"""What an optimizer does, step by step, to compare two ways to say the same."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

import adaptax

PARAMS = {
    "matrix": np.random.default_rng(1).normal(size=(8, 2)).astype(np.float32),
    "scalar": np.asarray(0.7, np.float32),
}


def gradients(steps: int = 8) -> list[Any]:
    """Make random gradients like `PARAMS`."""
    random = np.random.default_rng(2)
    return [
        jax.tree.map(lambda x: np.asarray(random.normal(size=x.shape), x.dtype), PARAMS)
        for _ in range(steps)
    ]


def updates_of(optimizer: Any, given: Any = None, params: Any = PARAMS, **extra: Any):
    """Update along the gradients, without jit; list the updates."""
    optimizer, updates = optax.with_extra_args_support(optimizer), []
    state = optimizer.init(params)
    for gradient in given or gradients():
        update, state = optimizer.update(gradient, state, params, **extra)
        params = optax.apply_updates(params, update)
        updates.append(update)
    return updates


def assert_same_steps(one: Any, other: Any, rtol: float = 1e-5, **extra: Any) -> None:
    """Show that two optimizers make the same updates."""
    chex.assert_trees_all_close(
        updates_of(one, **extra), updates_of(other, **extra), rtol=rtol, atol=1e-7
    )


def as_dtype(tree: Any, dtype: Any) -> Any:
    """Cast all leaves."""
    return jax.tree.map(lambda x: jnp.asarray(x).astype(dtype), tree)


def minimize(optimizer: Any, loss: Any, params: Any, steps: int):
    """Minimize in one scan; give the end, and the loss and the rate at each step."""
    optimizer = optax.with_extra_args_support(optimizer)

    def step(carry, _):
        params, state = carry
        value, grad = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(
            grad, state, params, value=value, grad=grad, value_fn=loss
        )
        params = optax.apply_updates(params, updates)
        return (params, state), (value, adaptax.learning_rate(state))

    carry = params, optimizer.init(params)
    (params, state), (values, rates) = jax.lax.scan(step, carry, length=steps)
    return params, state, values, rates
