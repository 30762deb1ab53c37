"""Training of a digit classifier, many steps in one program.

A call trains on a sequence of batches in one `lax.scan`. The digits stay on the device,
and each step gathers its batch there.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

EVALUATION_BATCH = 500


class TrainState(NamedTuple):
    """What training carries from step to step."""

    params: Any
    opt_state: optax.OptState


def batch_order(
    key: jax.Array, num_examples: int, batch_size: int, epoch: int
) -> jax.Array:
    """Draw the batches of an epoch.

    Args:
        key: The run's key; the same key and epoch give the same batches.
        num_examples: Examples to draw from; an incomplete last batch is left out.
        batch_size: Examples in a batch.
        epoch: The epoch's number.

    Returns:
        Indices of shape (steps, batch_size).
    """
    steps = num_examples // batch_size
    order = jax.random.permutation(jax.random.fold_in(key, epoch), num_examples)
    return order[: steps * batch_size].reshape(steps, batch_size)


def make_train(
    network: nnx.GraphDef,
    optimizer: optax.GradientTransformationExtraArgs,
    read: Callable[[optax.OptState], dict[str, jax.Array]] = lambda opt_state: {},
) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
    """Make the function that trains on a sequence of batches.

    Args:
        network: The graph of a network that maps images to logits.
        optimizer: Any optimizer; its `update` receives the loss of the batch as
            `value`, the gradient as `grad` and the loss function as `value_fn`.
        read: Returns the values to record from the optimizer's state at each step.

    Returns:
        `train(state, images, labels, order) -> (state, history)`, jitted, with the
        state donated: images (N, 28, 28) uint8, labels (N,), order (steps, batch)
        indices; the history has `loss`, `accuracy` and the values of `read`, each of
        shape (steps,).
    """

    def step(state, images, labels):
        def measure(params):
            return loss_and_accuracy(network, params, images, labels)

        (loss, accuracy), gradients = jax.value_and_grad(measure, has_aux=True)(
            state.params
        )
        updates, opt_state = optimizer.update(
            gradients,
            state.opt_state,
            state.params,
            value=loss,
            grad=gradients,
            value_fn=lambda params: measure(params)[0],
        )
        params = optax.apply_updates(state.params, updates)
        record = {"loss": loss, "accuracy": accuracy, **read(opt_state)}
        return TrainState(params, opt_state), record

    def train(state, images, labels, order):
        def on_batch(state, indices):
            return step(state, images[indices], labels[indices])

        return jax.lax.scan(on_batch, state, order)

    return jax.jit(train, donate_argnums=0)


def loss_and_accuracy(
    network: nnx.GraphDef, params: Any, images: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return a batch's mean cross-entropy in nats, and its accuracy."""
    pixels = images.astype(jnp.float32)[..., None] / 255
    logits = nnx.merge(network, params)(pixels)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    right = jnp.argmax(logits, axis=-1) == labels
    return losses.mean(), right.astype(jnp.float32).mean()


def make_evaluate(
    network: nnx.GraphDef,
) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Make `evaluate(params, images, labels)`: loss and accuracy over a whole set."""

    @jax.jit
    def evaluate(params, images, labels):
        size = min(EVALUATION_BATCH, len(images))
        whole = len(images) // size * size

        def mean_over(part):
            return loss_and_accuracy(network, params, *part)

        batches = [
            array[:whole].reshape(-1, size, *array.shape[1:])
            for array in (images, labels)
        ]
        losses, accuracies = jax.lax.map(mean_over, tuple(batches))
        total = jnp.stack([losses.sum(), accuracies.sum()]) * size
        if whole < len(images):
            rest = mean_over((images[whole:], labels[whole:]))
            total += jnp.stack(rest) * (len(images) - whole)
        return tuple(total / len(images))

    return evaluate
