"""The networks of the sweep benchmark, their data and the learning rates."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adaptax.bench.shared.networks import digit_network
from adaptax.bench.shared.training import loss_and_accuracy

EXAMPLES = 4096


class Model(NamedTuple):
    """A network to sweep, with the number of rates and the steps of a measurement."""

    init: Callable[[jax.Array], Any]
    loss: Callable[[Any, Any], jax.Array]
    members: int
    batch_size: int
    steps: int


def mlp(width: int, members: int) -> Model:
    """Return a network with one hidden layer."""

    def init(key):
        first, second = jax.random.split(key)
        return {
            "first": jax.random.normal(first, (784, width)) / 28,
            "bias": jnp.zeros(width),
            "second": jax.random.normal(second, (width, 10)) / width**0.5,
        }

    def loss(params, batch):
        pixels = batch["images"].reshape(-1, 784).astype(jnp.float32) / 255
        hidden = jax.nn.relu(pixels @ params["first"] + params["bias"])
        return optax.softmax_cross_entropy_with_integer_labels(
            hidden @ params["second"], batch["labels"]
        ).mean()

    return Model(init, loss, members, batch_size=32, steps=50)


def _mnist() -> Model:
    network, init = digit_network()

    def loss(params, batch):
        return loss_and_accuracy(network, params, batch["images"], batch["labels"])[0]

    return Model(init, loss, members=4, batch_size=128, steps=5)


MODELS: dict[str, Callable[[], Model]] = {
    "MLP, 16 units": lambda: mlp(16, members=64),
    "MLP, 128 units": lambda: mlp(128, members=16),
    "MNIST network": _mnist,
}


def swept_rates(model: Model) -> np.ndarray:
    """Return the learning rates of the members, (members,)."""
    return np.geomspace(1e-4, 1e-2, model.members).astype(np.float32)


def random_data() -> dict[str, np.ndarray]:
    """Draw images and labels, the same at every call."""
    generator = np.random.default_rng(0)
    return {
        "images": generator.integers(0, 256, (EXAMPLES, 28, 28), dtype=np.uint8),
        "labels": generator.integers(0, 10, EXAMPLES, dtype=np.int32),
    }


def random_batches(model: Model) -> Callable[[int], Iterator[dict[str, np.ndarray]]]:
    """Return `start -> batches` of random rows of the data, for a stream."""
    data = random_data()

    def batches(start):
        generator = np.random.default_rng(start)
        while True:
            rows = generator.integers(0, EXAMPLES, model.batch_size)
            yield {name: array[rows] for name, array in data.items()}

    return batches
