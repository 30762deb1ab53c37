"""Layers of the small networks: plain functions of dicts of arrays."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax


def dense_params(key: jax.Array, inputs: int, outputs: int) -> dict[str, jax.Array]:
    """Draw a kernel of variance 1/inputs (LeCun et al. 1998), with a bias of 0."""
    kernel = jax.random.normal(key, (inputs, outputs)) / math.sqrt(inputs)
    return {"kernel": kernel, "bias": jnp.zeros(outputs)}


def dense(params: dict[str, jax.Array], inputs: jax.Array) -> jax.Array:
    """Multiply by the kernel, over the last axis, and add the bias."""
    outputs = inputs @ params["kernel"]
    return outputs + jnp.broadcast_to(params["bias"], outputs.shape)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the mean cross-entropy in nats, of logits (..., classes), labels (...)."""
    # One-hot labels have a gradient without a scatter. With an explicit logsumexp,
    # jax 0.10 on CPUs computes wrong values under vmap from batch index 32 on.
    labels = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return jnp.mean(optax.softmax_cross_entropy(logits, labels))


def split_examples(
    arrays: dict[str, np.ndarray], *sizes: int, seed: int = 0
) -> list[dict[str, np.ndarray]]:
    """Shuffle the examples, set parts of the sizes apart, and return [rest, *parts]."""
    length = len(next(iter(arrays.values())))
    order = np.random.default_rng(seed).permutation(length)
    *parts, rest = np.split(order, np.cumsum(sizes))
    return [
        {name: array[rows] for name, array in arrays.items()} for rows in [rest, *parts]
    ]
