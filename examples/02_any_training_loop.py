"""
One optimizer in every training loop
====================================

Use a rate that follows the loss in an existing training loop. The same optimizer trains
the same network from the same start in a plain JAX loop, in a Linen ``TrainState`` and
in an NNX ``Optimizer``. All three end with equal parameters.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen, nnx

import adaptax
from adaptax.bench.shared.arguments import at_least
from adaptax.bench.shared.digits import bundled_digits

WIDTHS = (784, 64, 10)


def make_optimizer(num_steps):
    """Chain clipping, Adam, a cosine and a rate that follows the loss."""
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        adaptax.scale_by_adam(),
        adaptax.cosine(peak=3e-3, total_steps=num_steps, warmup_steps=num_steps // 10),
        adaptax.reduce_on_plateau(factor=0.5, patience=2, window=10),
        optax.scale(-1.0),
    )


def cross_entropy(logits, labels):
    """Return the mean loss of a batch."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean()


# %%
# A plain loop
# ------------
# Pass the loss as ``value=``; the rest is the usual loop of an Optax optimizer.


def dense(layer, inputs):
    """Apply one layer."""
    return inputs @ layer["kernel"] + layer["bias"]


def train_plain(params, batches, num_steps):
    """Train a network written as plain functions."""
    optimizer = make_optimizer(num_steps)
    opt_state = optimizer.init(params)

    @jax.jit
    def step(params, opt_state, images, labels):
        def loss_of(params):
            hidden = jax.nn.relu(dense(params["hidden"], images))
            return cross_entropy(dense(params["output"], hidden), labels)

        loss, gradients = jax.value_and_grad(loss_of)(params)
        updates, opt_state = optimizer.update(gradients, opt_state, params, value=loss)
        return optax.apply_updates(params, updates), opt_state

    for images, labels in batches:
        params, opt_state = step(params, opt_state, images, labels)
    return params, adaptax.learning_rate(opt_state)


# %%
# A Linen TrainState
# ------------------
# ``apply_gradients`` of Flax's own ``TrainState`` cannot pass the loss to the
# optimizer; ``apply_gradients`` of ``adaptax.flax.TrainState`` does.


class LinenNetwork(linen.Module):
    """The network as a Linen module."""

    @linen.compact
    def __call__(self, images):
        """Map images to logits."""
        hidden = linen.relu(linen.Dense(WIDTHS[1], name="hidden")(images))
        return linen.Dense(WIDTHS[2], name="output")(hidden)


def train_linen(params, batches, num_steps):
    """Train with a Linen TrainState."""
    network = LinenNetwork()
    state = adaptax.flax.TrainState.create(
        apply_fn=network.apply, params=params, tx=make_optimizer(num_steps)
    )

    @jax.jit
    def step(state, images, labels):
        def loss_of(params):
            return cross_entropy(state.apply_fn({"params": params}, images), labels)

        loss, gradients = jax.value_and_grad(loss_of)(state.params)
        return state.apply_gradients(grads=gradients, value=loss)

    for images, labels in batches:
        state = step(state, images, labels)
    return state.params, adaptax.learning_rate(state)


# %%
# An NNX Optimizer
# ----------------
# ``nnx.Optimizer.update`` passes ``value=`` to the optimizer.


class NnxNetwork(nnx.Module):
    """The network as an NNX module."""

    def __init__(self, rngs):
        self.hidden = nnx.Linear(WIDTHS[0], WIDTHS[1], rngs=rngs)
        self.output = nnx.Linear(WIDTHS[1], WIDTHS[2], rngs=rngs)

    def __call__(self, images):
        """Map images to logits."""
        return self.output(nnx.relu(self.hidden(images)))


def train_nnx(params, batches, num_steps):
    """Train with an NNX Optimizer."""
    network = NnxNetwork(nnx.Rngs(0))
    nnx.update(network, params)
    optimizer = nnx.Optimizer(network, make_optimizer(num_steps), wrt=nnx.Param)

    @nnx.jit
    def step(network, optimizer, images, labels):
        def loss_of(network):
            return cross_entropy(network(images), labels)

        loss, gradients = nnx.value_and_grad(loss_of)(network)
        optimizer.update(network, gradients, value=loss)

    for images, labels in batches:
        step(network, optimizer, images, labels)
    params = nnx.to_pure_dict(nnx.state(network, nnx.Param))
    return params, adaptax.learning_rate(optimizer)


# %%
# Comparing the loops
# -------------------


def make_batches(num_steps, batch_size=64):
    """Draw the same batches for every loop."""
    digits = bundled_digits()
    generator = np.random.default_rng(0)
    order = generator.integers(0, len(digits.train_images), (num_steps, batch_size))
    images = digits.train_images.reshape(-1, WIDTHS[0]).astype(np.float32) / 255
    return [
        (jnp.asarray(images[rows]), jnp.asarray(digits.train_labels[rows]))
        for rows in order
    ]


def largest_difference(one, other):
    """Return the largest difference between two trees of parameters."""
    differences = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), one, other)
    return max(map(float, jax.tree.leaves(differences)))


def main(argv=None):
    """Train in all three loops from one start, and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--steps", type=at_least(1), default=400)
    parser.add_argument("--smoke", action="store_true", help="a run of seconds")
    arguments = parser.parse_args(argv)
    num_steps = 40 if arguments.smoke else arguments.steps
    batches = make_batches(num_steps)
    start = LinenNetwork().init(jax.random.key(0), batches[0][0])["params"]

    results = {}
    for train in (train_plain, train_linen, train_nnx):
        params, rate = results[train] = train(start, batches, num_steps)
        difference = largest_difference(results[train_plain][0], params)
        print(
            f"{train.__name__:12s} learning rate at the last step {float(rate):.3e}, "
            f"largest difference from the plain loop {difference:.1e}"
        )
    return max(
        largest_difference(results[train_plain][0], params)
        for params, _ in results.values()
    )


if __name__ == "__main__":
    main()
