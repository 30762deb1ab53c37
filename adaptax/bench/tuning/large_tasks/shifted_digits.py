"""The images of the large tasks: MNIST's digits, shifted at random by up to 4 pixels.

The key of a loss determines the shifts, so that an epoch never repeats itself, and the
losses of validation and test, whose key is fixed, are those of fixed images.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adaptax.bench.shared.digits import bundled_digits
from adaptax.bench.shared.tasks import Problem
from adaptax.bench.shared.tasks.layers import cross_entropy

MOST = 4
SIZE = 28
PART = 25


def digits_problem(batch_size: int, held_out: int) -> Problem:
    """Return 4,000 digits to train, and `held_out` ≤ 500 each to validate and test."""
    digits = bundled_digits()

    def examples(images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        return {"images": images, "labels": labels}

    validation, test = slice(held_out), slice(500, 500 + held_out)
    return Problem(
        examples(digits.train_images, digits.train_labels),
        examples(digits.test_images[validation], digits.test_labels[validation]),
        examples(digits.test_images[test], digits.test_labels[test]),
        batch_size,
    )


def shifted(images: jax.Array, key: jax.Array) -> jax.Array:
    """Shift images (N, 28, 28) of uint8 at random; the result is in [0, 1]."""
    padded = jnp.pad(images, ((0, 0), (MOST, MOST), (MOST, MOST)))
    corners = jax.random.randint(key, (len(images), 2), 0, 2 * MOST + 1)

    def cut(image: jax.Array, corner: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, corner, (SIZE, SIZE))

    return jax.vmap(cut)(padded, corners).astype(jnp.float32) / 255


def halved(images: jax.Array) -> jax.Array:
    """Average images (N, 28, 28) over squares of 2×2: (N, 14, 14)."""
    return images.reshape(-1, SIZE // 2, 2, SIZE // 2, 2).mean((2, 4))


def digit_losses(
    network: Callable[[Any, jax.Array], jax.Array],
) -> tuple[Callable[..., jax.Array], Callable[..., jax.Array]]:
    """Return the loss of a classifier, and the same computed for 25 images at a time.

    These fit the processor's cache, so that evaluating convolutions is twice as fast.

    Args:
        network: Maps the parameters and images (N, 28, 28) to logits (N, 10).
    """

    def loss(params, batch, key):
        logits = network(params, shifted(batch["images"], key))
        return cross_entropy(logits, batch["labels"])

    def loss_in_parts(params, examples, key):
        parts = shifted(examples["images"], key).reshape(-1, PART, SIZE, SIZE)
        logits = jax.lax.map(lambda part: network(params, part), parts)
        return cross_entropy(logits.reshape(-1, 10), examples["labels"])

    return loss, loss_in_parts
