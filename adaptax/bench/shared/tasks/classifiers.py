"""Four classifiers: logistic regression, an MLP, a convolution, a recurrent network.

* `logistic`: the 8×8 digits by softmax regression. The inputs are deliberately badly
  conditioned: whitened, then scaled by 1 to 1/100 along random axes.
* `mlp`: MNIST-1D, two hidden layers.
* `convolution`: MNIST's digits at 14×14; two convolutions of stride 2, each one matrix
  product over shifted slices.
* `gru`: the 8×8 digits, read row by row by a gated recurrent unit.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adaptax.bench.shared.digits import bundled_digits
from adaptax.bench.shared.tasks.layers import (
    cross_entropy,
    dense,
    dense_params,
    split_examples,
)
from adaptax.bench.shared.tasks.mnist1d import LENGTH, mnist1d
from adaptax.bench.shared.tasks.task import (
    Problem,
    Task,
    corrupt_labels,
    rescale_inputs,
    shrink_batch,
)

Batch = dict[str, jax.Array]


def small_digits() -> tuple[np.ndarray, np.ndarray]:
    """Load scikit-learn's 1797 digits: pixels (N, 64) in [0, 1], labels (N,).

    Raises:
        ImportError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            'the benchmark needs scikit-learn: pip install "adaptax[bench]".'
        ) from error
    bunch: Any = load_digits()
    return (bunch.data / 16).astype(np.float32), bunch.target.astype(np.int32)


def _logistic_problem() -> Problem:
    pixels, labels = small_digits()
    centred = pixels - pixels.mean(axis=0)
    axes, _, _ = np.linalg.svd(centred, full_matrices=False)
    whitened = axes[:, :40] * np.sqrt(len(pixels))
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(40, 40)))
    inputs = (whitened * np.logspace(0, -2, 40)) @ rotation
    examples = {"inputs": inputs.astype(np.float32), "labels": labels}
    return Problem(*split_examples(examples, 200, 200), batch_size=64)


def _logistic_init(key):
    return {"output": dense_params(key, 40, 10)}


def _logistic_loss(params, batch: Batch, key):
    del key
    return cross_entropy(dense(params["output"], batch["inputs"]), batch["labels"])


def _mlp_problem() -> Problem:
    def examples(size, seed):
        signals, labels = mnist1d(size, seed)
        return {"inputs": signals, "labels": labels}

    train, validation = split_examples(examples(5000, 0), 500)
    return Problem(train, validation, examples(500, 1), batch_size=64)


def _mlp_init(key):
    first, second, output = jax.random.split(key, 3)
    return {
        "first": dense_params(first, LENGTH, 64),
        "second": dense_params(second, 64, 32),
        "output": dense_params(output, 32, 10),
    }


def _mlp_loss(params, batch: Batch, key):
    del key
    hidden = jax.nn.relu(dense(params["first"], batch["inputs"]))
    hidden = jax.nn.relu(dense(params["second"], hidden))
    return cross_entropy(dense(params["output"], hidden), batch["labels"])


def _convolution_problem() -> Problem:
    digits = bundled_digits()

    def examples(images, labels):
        halved = images.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)) / 255
        return {"inputs": halved.astype(np.float32), "labels": labels}

    return Problem(
        examples(digits.train_images, digits.train_labels),
        examples(digits.test_images[:200], digits.test_labels[:200]),
        examples(digits.test_images[200:400], digits.test_labels[200:400]),
        batch_size=16,
    )


def _convolution_init(key):
    first, second, output = jax.random.split(key, 3)
    return {
        "first": dense_params(first, 9, 8),
        "second": dense_params(second, 9 * 8, 16),
        "output": dense_params(output, 4 * 4 * 16, 10),
    }


def _convolved(params, images: jax.Array) -> jax.Array:
    """Convolve images (N, H, W, C) by 3×3 with a stride of 2."""
    _, height, width, _ = images.shape
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    slices = [
        padded[:, i : i + height : 2, j : j + width : 2]
        for i in range(3)
        for j in range(3)
    ]
    return dense(params, jnp.concatenate(slices, axis=-1))


def _convolution_loss(params, batch: Batch, key):
    del key
    hidden = jax.nn.relu(_convolved(params["first"], batch["inputs"][..., None]))
    hidden = jax.nn.relu(_convolved(params["second"], hidden))
    logits = dense(params["output"], hidden.reshape(len(hidden), -1))
    return cross_entropy(logits, batch["labels"])


def _gru_problem() -> Problem:
    pixels, labels = small_digits()
    examples = {"inputs": pixels.reshape(-1, 8, 8), "labels": labels}
    return Problem(*split_examples(examples, 200, 200), batch_size=32)


def _gru_init(key):
    gates, candidate, output = jax.random.split(key, 3)
    return {
        "gates": dense_params(gates, 8 + 16, 2 * 16),
        "candidate": dense_params(candidate, 8 + 16, 16),
        "output": dense_params(output, 16, 10),
    }


def _gru_loss(params, batch: Batch, key):
    """Cho et al. (2014): h ← u h + (1 − u) tanh(W [x, r h])."""
    del key
    rows = jnp.moveaxis(batch["inputs"], 1, 0)
    hidden = jnp.zeros((rows.shape[1], 16))
    for row in rows:
        both = jnp.concatenate([row, hidden], axis=-1)
        update, reset = jnp.split(jax.nn.sigmoid(dense(params["gates"], both)), 2, -1)
        both = jnp.concatenate([row, reset * hidden], axis=-1)
        candidate = jnp.tanh(dense(params["candidate"], both))
        hidden = update * hidden + (1 - update) * candidate
    return cross_entropy(dense(params["output"], hidden), batch["labels"])


LOGISTIC = Task(
    "logistic",
    400,
    _logistic_init,
    _logistic_loss,
    _logistic_problem,
    rescale_inputs,
    "inputs × 100",
)
MLP = Task("mlp", 500, _mlp_init, _mlp_loss, _mlp_problem, shrink_batch, "small batch")
CONVOLUTION = Task(
    "convolution",
    300,
    _convolution_init,
    _convolution_loss,
    _convolution_problem,
    corrupt_labels,
    "label noise",
)
GRU = Task(
    "gru", 300, _gru_init, _gru_loss, _gru_problem, rescale_inputs, "inputs × 100"
)
