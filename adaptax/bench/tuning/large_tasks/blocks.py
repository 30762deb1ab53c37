"""The block of the transformers: attention and a hidden layer, each normalized before.

    h ← h + W attention(norm(h)),      h ← h + W₂ gelu(W₁ norm(h))

Source: Vaswani et al. (2017), "Attention Is All You Need", NeurIPS, with the
normalization before each part; the last layer of each part starts smaller by the root
of twice the depth, as in Radford et al. (2019), "Language Models are Unsupervised
Multitask Learners".
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from adaptax.bench.shared.tasks.layers import attend, dense, dense_params, normalized


def block_params(key: jax.Array, width: int, depth: int) -> dict[str, Any]:
    """Draw one of `depth` blocks, whose hidden layer is four times as wide."""
    keys = jax.random.split(key, 4)
    smaller = 1 / math.sqrt(2 * depth)
    return {
        "attention_norm": jnp.ones(width),
        "attention": dense_params(keys[0], width, 3 * width),
        "mix": _scaled(dense_params(keys[1], width, width), smaller),
        "hidden_norm": jnp.ones(width),
        "expand": dense_params(keys[2], width, 4 * width),
        "contract": _scaled(dense_params(keys[3], 4 * width, width), smaller),
    }


def block(
    params: dict[str, Any], hidden: jax.Array, heads: int, causal: bool
) -> jax.Array:
    """Apply a block to `hidden` (N, T, width)."""
    mixed = dense(params["attention"], norm(params["attention_norm"], hidden))
    attended = attend(mixed, heads, causal)
    hidden = hidden + dense(params["mix"], attended)
    wide = jax.nn.gelu(dense(params["expand"], norm(params["hidden_norm"], hidden)))
    return hidden + dense(params["contract"], wide)


def norm(scale: jax.Array, hidden: jax.Array) -> jax.Array:
    """Normalize over the last axis to mean 0 and variance 1, and scale."""
    normed = normalized(hidden.astype(jnp.float32))
    return normed.astype(hidden.dtype) * jnp.broadcast_to(scale, hidden.shape)


def _scaled(params, factor):
    return params | {"kernel": factor * params["kernel"]}
