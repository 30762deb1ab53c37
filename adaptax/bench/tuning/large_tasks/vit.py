"""A vision transformer that reads shifted digits as 16 patches of 7×7 pixels.

Source: Dosovitskiy et al. (2021), "An Image is Worth 16x16 Words", ICLR, with the mean
over the patches instead of a class token.
"""

import functools

import jax
import jax.numpy as jnp

from adaptax.bench.shared.tasks import Task
from adaptax.bench.shared.tasks.layers import dense, dense_params
from adaptax.bench.tuning.large_tasks.blocks import block, block_params, norm
from adaptax.bench.tuning.large_tasks.shifted_digits import (
    digit_losses,
    digits_problem,
)

WIDTH = 64
DEPTH = 3
HEADS = 4
PATCH = 7
SIDE = 28 // PATCH


def _init(key):
    keys = jax.random.split(key, DEPTH + 3)
    blocks = {
        f"block_{index}": block_params(keys[index], WIDTH, DEPTH)
        for index in range(DEPTH)
    }
    return blocks | {
        "patches": dense_params(keys[-3], PATCH**2, WIDTH),
        "places": 0.3 * jax.random.normal(keys[-2], (SIDE**2, WIDTH)),
        "norm": jnp.ones(WIDTH),
        "output": dense_params(keys[-1], WIDTH, 10),
    }


def _logits(params, images):
    cut = images.reshape(-1, SIDE, PATCH, SIDE, PATCH)
    patches = jnp.swapaxes(cut, 2, 3).reshape(-1, SIDE**2, PATCH**2)
    hidden = dense(params["patches"], patches)
    hidden = hidden + jnp.broadcast_to(params["places"], hidden.shape)
    for index in range(DEPTH):
        hidden = block(params[f"block_{index}"], hidden, HEADS, causal=False)
    features = norm(params["norm"], hidden).mean(1)
    return dense(params["output"], features)


_LOSS, _LOSS_IN_PARTS = digit_losses(_logits)
VIT = Task(
    "vit",
    2000,
    _init,
    _LOSS,
    functools.partial(digits_problem, 8, 400),
    half="frozen",
    measured=_LOSS_IN_PARTS,
)
