"""
Find a learning rate
====================

Find a learning rate, and compare it with the best rate of a sweep. The finder trains
the MNIST network for a hundred steps while the rate grows from 1e-6 to 1. Then the
network is trained at every rate of a grid and at every suggestion of the finder, all in
one compiled program.

``python examples/04_find_a_rate.py --help`` lists the options.
"""

import argparse
import json
from functools import partial

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx

import adaptax
from adaptax import plots
from adaptax.bench.shared.arguments import at_least, folder
from adaptax.bench.shared.digits import bundled_digits
from adaptax.bench.shared.networks import pooled_convolution
from adaptax.bench.shared.records import versions

BATCH_SIZE = 128
LOW, HIGH = 1e-6, 1.0
OPTIMIZERS = {
    "adam": adaptax.adam,
    "momentum": adaptax.momentum,
    "gradient_descent": adaptax.gradient_descent,
}


# %%
# The network
# -----------
# This is plain Flax. ``pooled_convolution`` is a convolution followed by 2×2 pooling
# that takes less time on a CPU than XLA's own.


class Network(nnx.Module):
    """Two 3×3 convolutions with 2×2 pooling and ReLU, then a dense layer."""

    def __init__(self, rngs):
        layer = partial(
            nnx.Conv,
            kernel_size=(3, 3),
            conv_general_dilated=pooled_convolution,
            rngs=rngs,
        )
        self.convolution1 = layer(1, 32)
        self.convolution2 = layer(32, 64)
        self.dense = nnx.Linear(7 * 7 * 64, 10, rngs=rngs)

    def __call__(self, images):
        """Map images (N, 28, 28, 1) to logits (N, 10)."""
        hidden = nnx.relu(self.convolution1(images))
        hidden = nnx.relu(self.convolution2(hidden))
        return self.dense(hidden.reshape(len(hidden), -1))


# %%
# The trial
# ---------
# A Flax model, its loss, the data, and an optimizer whose rate is a hyperparameter.


def make_trial(digits, name):
    """Make a trial of the MNIST network, judged by its accuracy on the test digits."""

    def classify(model, digits):
        logits = model(digits["images"].astype(jnp.float32)[..., None] / 255)
        losses = optax.softmax_cross_entropy_with_integer_labels(
            logits, digits["labels"]
        )
        return losses.mean(), (logits.argmax(axis=-1) == digits["labels"]).mean()

    def evaluate(model, digits):
        loss, accuracy = classify(model, digits)
        return loss, {"accuracy": accuracy}

    return adaptax.nnx_trial(
        make_model=Network,
        loss=lambda model, batch: classify(model, batch)[0],
        optimizer=lambda hparams: OPTIMIZERS[name](hparams["learning_rate"]),
        data={"images": digits.train_images, "labels": digits.train_labels},
        batch_size=min(BATCH_SIZE, len(digits.train_labels)),
        evaluate=evaluate,
        eval_data={"images": digits.test_images, "labels": digits.test_labels},
    )


# %%
# The finder
# ----------
# A trial is pure, so no state has to be saved and restored. Several seeds run at once,
# and each yields its own suggestions; ``spread`` shows how far they differ.


def find(trial, arguments):
    """Raise the rate from step to step."""
    return adaptax.find_learning_rate(
        trial, LOW, HIGH, arguments.finder_steps, seeds=arguments.seeds
    )


# %%
# The comparison
# --------------
# Train at every rate of a grid and at every suggestion.


def train_at_all(trial, found, arguments):
    """Train at each rate of the grid, then at each suggestion."""
    suggested = {name: rate for name, rate in found.suggestions.items() if rate}
    low, high = arguments.between
    grid = np.geomspace(low, high, arguments.rates)
    rates = [*grid.tolist(), *suggested.values()]
    swept = adaptax.sweep(
        trial,
        {"learning_rate": adaptax.spaces.grid(rates)},
        num_steps=arguments.steps,
        seeds=arguments.seeds,
        checkpoint=arguments.out / "checkpoints",
    )
    accuracy = np.nan_to_num(swept.metrics["accuracy"]).mean(axis=1)
    at_suggested = accuracy[len(grid) :]
    return grid, accuracy[: len(grid)], dict(zip(suggested, at_suggested, strict=True))


# %%
# Results
# -------


def summarize(found, grid, accuracy, suggested):
    """Compare the suggestions with the best rate of the grid."""
    steps = found.learning_rates.size * len(found.losses)
    return {
        "status": found.status,
        "suggestion": found.suggestion,
        "suggestions": found.suggestions,
        "accuracy_at_suggestions": {name: float(x) for name, x in suggested.items()},
        "best_rate": float(grid[accuracy.argmax()]),
        "best_accuracy": float(accuracy.max()),
        "finder_steps": steps,
        "finder_seconds": found.about["seconds"],
    }


def plot(grid, accuracy, found, suggested):
    """Draw the accuracy over the rate, and mark the suggestions."""
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    axes.plot(grid, 100 * accuracy, ".-", color="0.5", label="sweep")
    for index, (name, value) in enumerate(suggested.items(), start=1):
        rate = found.suggestions[name]
        label = f"{name}, {rate:.2g}: {value:.1%}"
        axes.plot(rate, 100 * value, "o", color=f"C{index}", label=label)
    axes.set(xscale="log", xlabel="learning rate", ylabel="test accuracy in %")
    axes.legend()
    axes.grid(alpha=0.3)
    return figure


def parse(argv):
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="adam")
    parser.add_argument("--finder-steps", type=at_least(1), default=100)
    parser.add_argument("--seeds", type=at_least(1), default=3)
    parser.add_argument("--rates", type=at_least(1), default=9, help="in the grid")
    parser.add_argument(
        "--between", type=float, nargs=2, default=(1e-4, 1e-1), metavar="RATE"
    )
    parser.add_argument(
        "--steps", type=at_least(1), default=155, help="31 are an epoch"
    )
    parser.add_argument("--out", type=folder, default="runs/finder")
    parser.add_argument("--smoke", action="store_true", help="a run of seconds")
    arguments = parser.parse_args(argv)
    if arguments.smoke:
        arguments.finder_steps, arguments.seeds = 20, 1
        arguments.rates, arguments.steps = 2, 3
    return arguments


def main(argv=None):
    """Find a rate, compare it, and write the results and two figures to --out."""
    arguments = parse(argv)
    digits = bundled_digits()
    if arguments.smoke:
        digits = type(digits)(*(array[:64] for array in digits))
    trial = make_trial(digits, arguments.optimizer)
    found = find(trial, arguments)
    print(found.message)
    found.save(arguments.out / "finder.npz")
    plots.finder(found).savefig(arguments.out / "finder.png", dpi=110)
    grid, accuracy, suggested = train_at_all(trial, found, arguments)
    results = {
        **summarize(found, grid, accuracy, suggested),
        "versions": versions(),
    }
    (arguments.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    plot(grid, accuracy, found, suggested).savefig(arguments.out / "proof.png", dpi=110)
    for name, value in suggested.items():
        print(f"{name}: {found.suggestions[name]:.2g} trains to {value:.2%}.")
    print(
        f"Best of the sweep: {results['best_rate']:.2g} trains to "
        f"{results['best_accuracy']:.2%}."
    )


if __name__ == "__main__":
    main()
