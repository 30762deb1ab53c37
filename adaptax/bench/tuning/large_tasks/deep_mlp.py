"""A deep network of dense layers without normalization, on MNIST-1D, moved at random.

Nine hidden layers of 128, rectified: the initialization alone keeps signals and
gradients in range. The key of a loss rolls each signal by up to 4 of its 40 points, so
that an epoch never repeats itself.

Source: He et al. (2015), "Delving Deep into Rectifiers", ICCV: kernels of variance
2/inputs.
"""

import math

import jax
import jax.numpy as jnp

from adaptax.bench.shared.tasks import Problem, Task
from adaptax.bench.shared.tasks.layers import cross_entropy, dense, dense_params
from adaptax.bench.shared.tasks.mnist1d import LENGTH, mnist1d

MOST = 4
WIDTHS = (LENGTH, *9 * (128,), 10)


def _problem() -> Problem:
    def examples(size, seed):
        signals, labels = mnist1d(size, seed)
        return {"signals": signals, "labels": labels}

    return Problem(examples(4000, 2), examples(1000, 3), examples(1000, 4), 32)


def _init(key):
    keys = jax.random.split(key, len(WIDTHS) - 1)
    sizes = zip(keys, WIDTHS[:-1], WIDTHS[1:], strict=True)
    return [_rectified(dense_params(*size)) for size in sizes]


def _rectified(params):
    return params | {"kernel": math.sqrt(2) * params["kernel"]}


def _loss(params, batch, key):
    *inner, last = params
    signals = batch["signals"]
    moves = jax.random.randint(key, (len(signals),), -MOST, MOST + 1)
    hidden = jax.vmap(jnp.roll)(signals, moves)
    for layer in inner:
        hidden = jax.nn.relu(dense(layer, hidden))
    return cross_entropy(dense(last, hidden), batch["labels"])


DEEP_MLP = Task("deep_mlp", 2500, _init, _loss, _problem, half="frozen")
