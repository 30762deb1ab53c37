"""
Sweep a learning rate over seeds
================================

Measure how wide the range of good learning rates is, and how much it depends on the
seed. The MNIST network is trained at eleven rates with three seeds each, all in one
compiled program. Then successive halving searches the same rates at a fraction of the
cost.

``python examples/05_sweep.py --help`` lists the options. Start the script again to
continue an interrupted sweep.
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
from adaptax.bench.shared.arguments import at_least, folder
from adaptax.bench.shared.digits import bundled_digits
from adaptax.bench.shared.networks import pooled_convolution
from adaptax.bench.shared.records import versions
from adaptax.spaces import log_grid

BATCH_SIZE = 128


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
# A trial is a training run as pure functions of its hyperparameters and a key.
# ``evaluate`` returns the score, lower is better, and a dict of metrics to report.


def make_trial(digits):
    """Make a trial of the MNIST network and Adam, judged on the test digits."""

    def logits_and_labels(model, digits):
        pixels = digits["images"].astype(jnp.float32)[..., None] / 255
        return model(pixels), digits["labels"]

    def loss(model, batch):
        logits, labels = logits_and_labels(model, batch)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def evaluate(model, digits):
        logits, labels = logits_and_labels(model, digits)
        accuracy = (logits.argmax(axis=-1) == labels).astype(jnp.float32).mean()
        return 1 - accuracy, {"accuracy": accuracy}

    return adaptax.nnx_trial(
        make_model=Network,
        loss=loss,
        optimizer=lambda hparams: adaptax.adam(hparams["learning_rate"]),
        data={"images": digits.train_images, "labels": digits.train_labels},
        batch_size=min(BATCH_SIZE, len(digits.train_labels)),
        evaluate=evaluate,
        eval_data={"images": digits.test_images, "labels": digits.test_labels},
    )


# %%
# The sweep
# ---------
# The space names the hyperparameters, here one with a grid. Each point is trained with
# every seed. An interrupted sweep continues from the folder ``checkpoint``.


def run_sweep(trial, arguments):
    """Train every rate with every seed."""
    return adaptax.sweep(
        trial,
        {"learning_rate": log_grid(1e-4, 1e-1, arguments.rates)},
        num_steps=arguments.steps,
        seeds=arguments.seeds,
        checkpoint=arguments.out / "checkpoints",
    )


# %%
# Successive halving
# ------------------
# Training starts with the same rates; each rung keeps the best third of them.


def run_halving(trial, arguments):
    """Search the best of the same rates, and stop the others early."""
    return adaptax.successive_halving(
        trial,
        {"learning_rate": log_grid(1e-4, 1e-1, arguments.rates)},
        num_steps=arguments.steps,
        seeds=arguments.seeds,
    )


# %%
# Results
# -------


def summarize(swept, halved):
    """Collect the good region, the best rate of each seed, and the costs."""
    band = swept.good_region(within=0.25)
    per_seed = swept.hparams["learning_rate"][swept.scores.argmin(axis=0)]
    found = halved.best["learning_rate"]
    at_found = swept.hparams["learning_rate"] == np.float32(found)
    accuracy = swept.metrics["accuracy"].mean(axis=1)
    return {
        "best_rate": swept.best["learning_rate"],
        "best_accuracy": float(accuracy.max()),
        "good_from": band.low,
        "good_to": band.high,
        "good_decades": band.decades,
        "best_rate_of_each_seed": per_seed.tolist(),
        "halving_rate": found,
        "halving_accuracy_in_the_sweep": float(accuracy[at_found].mean()),
        "halving_cost": halved.cost,
        "plan": swept.about["plan"],
        "seconds": swept.about["seconds"],
        "compilations": swept.about["compilations"],
    }


def plot(swept, halved):
    """Draw the test error over the rate, by seed, and the losses of halving."""
    rates = swept.hparams["learning_rate"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for seed, errors in enumerate(swept.scores.T):
        left.plot(
            rates, 100 * errors, ".", color="0.6", label=None if seed else "a seed"
        )
    left.plot(rates, 100 * swept.scores.mean(axis=1), color="tab:blue", label="mean")
    left.set(
        xscale="log", yscale="log", xlabel="learning rate", ylabel="test error in %"
    )
    left.legend()
    steps = np.arange(1, halved.losses.shape[2] + 1)
    colors = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(rates)))
    for rate, curves, color in zip(rates, halved.losses, colors, strict=True):
        smooth = curves.mean(axis=0)
        right.plot(steps, smooth, color=color, linewidth=0.8, label=f"{rate:.1e}")
    for rung in halved.rungs[:-1]:
        right.axvline(rung, color="0.8", zorder=0)
    right.set(
        xlabel="step", ylabel="training loss", yscale="log", title="successive halving"
    )
    right.legend(title="learning rate", fontsize=6, ncols=2)
    for axis in (left, right):
        axis.grid(alpha=0.3)
    return figure


def parse(argv):
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--rates", type=at_least(1), default=11)
    parser.add_argument("--seeds", type=at_least(1), default=3)
    parser.add_argument("--steps", type=at_least(1), default=93, help="31 are an epoch")
    parser.add_argument("--out", type=folder, default="runs/sweep")
    parser.add_argument("--smoke", action="store_true", help="a run of seconds")
    arguments = parser.parse_args(argv)
    if arguments.smoke:
        arguments.rates, arguments.seeds, arguments.steps = 3, 2, 3
    return arguments


def main(argv=None):
    """Sweep, halve, and write the results and a figure to --out."""
    arguments = parse(argv)
    digits = bundled_digits()
    if arguments.smoke:
        digits = type(digits)(*(array[:64] for array in digits))
    trial = make_trial(digits)
    swept = run_sweep(trial, arguments)
    print(swept.table())
    swept.save(arguments.out / "sweep.npz")
    halved = run_halving(trial, arguments)
    results = {**summarize(swept, halved), "versions": versions()}
    (arguments.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    plot(swept, halved).savefig(arguments.out / "sweep.png", dpi=120)
    print(f"Best rate: {results['best_rate']:.2g}, {results['best_accuracy']:.2%}.")
    print(
        f"Test error within a quarter of the best: {results['good_from']:.2g} to "
        f"{results['good_to']:.2g}, {results['good_decades']:.1f} decades."
    )
    each = ", ".join(f"{rate:.2g}" for rate in results["best_rate_of_each_seed"])
    print(f"Best rate by one seed alone: {each}.")
    print(
        f"Halving chose {results['halving_rate']:.2g} "
        f"({results['halving_accuracy_in_the_sweep']:.2%} in the sweep) "
        f"at {results['halving_cost']:.0%} of the cost."
    )


if __name__ == "__main__":
    main()
