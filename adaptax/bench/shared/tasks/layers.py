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


def normalized(hidden: jax.Array) -> jax.Array:
    """Normalize over the last axis to mean 0 and variance 1."""
    centred = hidden - hidden.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5)


def attend(mixed: jax.Array, heads: int, causal: bool) -> jax.Array:
    """Return the attention (N, T, D) of queries, keys and values in (N, T, 3 D)."""
    count, length, width = mixed.shape
    by_head = mixed.reshape(count, length, 3, heads, width // 3 // heads)
    queries, keys, values = jnp.moveaxis(by_head, (2, 3), (0, 1))  # (H, N, T, D/H)
    root = math.sqrt(queries.shape[-1])
    scores = jnp.einsum("hntd,hnsd->hnts", queries, keys) / root
    if causal:
        past = jnp.broadcast_to(jnp.tri(length, dtype=bool), scores.shape)
        scores = jnp.where(past, scores, -1e9)
    weights = jax.nn.softmax(scores.astype(jnp.float32), axis=-1).astype(values.dtype)
    read = jnp.einsum("hnts,hnsd->nthd", weights, values)
    return read.reshape(count, length, width // 3)


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
