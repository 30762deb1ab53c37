"""A residual network of convolutions that reads shifted digits at 14×14.

A convolution of stride 2 to 7×7×32, a residual block, a convolution of stride 2 to
4×4×64, a residual block, the mean over the image. Each convolution is one matrix
product over shifted slices. Layer normalization over the channels stands for batch
normalization, so that a loss is a function of the parameters and the batch alone.

Source: He et al. (2016), "Identity Mappings in Deep Residual Networks", ECCV.
"""

import functools

import jax
import jax.numpy as jnp

from adaptax.bench.shared.tasks import Task
from adaptax.bench.shared.tasks.layers import dense, dense_params
from adaptax.bench.tuning.large_tasks.blocks import norm
from adaptax.bench.tuning.large_tasks.shifted_digits import (
    digit_losses,
    digits_problem,
    halved,
)


def _block_params(key, width):
    first, second = jax.random.split(key)
    return {
        "first_norm": jnp.ones(width),
        "first": dense_params(first, 9 * width, width),
        "second_norm": jnp.ones(width),
        "second": dense_params(second, 9 * width, width),
    }


def _init(key):
    keys = jax.random.split(key, 5)
    return {
        "stem": dense_params(keys[0], 9, 32),
        "wide": _block_params(keys[1], 32),
        "down": dense_params(keys[2], 9 * 32, 64),
        "deep": _block_params(keys[3], 64),
        "norm": jnp.ones(64),
        "output": dense_params(keys[4], 64, 10),
    }


def _logits(params, images):
    hidden = _convolved(params["stem"], halved(images)[..., None], stride=2)
    hidden = _block(params["wide"], hidden)
    hidden = _convolved(params["down"], hidden, stride=2)
    hidden = _block(params["deep"], hidden)
    features = jax.nn.relu(norm(params["norm"], hidden)).mean((1, 2))
    return dense(params["output"], features)


def _block(params, hidden):
    change = jax.nn.relu(norm(params["first_norm"], hidden))
    change = _convolved(params["first"], change)
    change = jax.nn.relu(norm(params["second_norm"], change))
    return hidden + _convolved(params["second"], change)


def _convolved(params, images: jax.Array, stride: int = 1) -> jax.Array:
    """Convolve images (N, H, W, C) by 3×3."""
    _, height, width, _ = images.shape
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    slices = [
        padded[:, i : i + height : stride, j : j + width : stride]
        for i in range(3)
        for j in range(3)
    ]
    return dense(params, jnp.concatenate(slices, axis=-1))


_LOSS, _LOSS_IN_PARTS = digit_losses(_logits)
RESNET = Task(
    "resnet",
    2000,
    _init,
    _LOSS,
    functools.partial(digits_problem, 8, 300),
    half="design",
    measured=_LOSS_IN_PARTS,
)
