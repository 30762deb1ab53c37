"""
Rates that follow the loss, from a rate that is 30 times wrong
==============================================================

Compare controllers on runs whose learning rate is set 30 times too large or 30 times
too small. The MNIST network is trained from both rates, with and without each
controller, for as many steps as a well-tuned run. A run counts as rescued if its final
test accuracy is at most one percentage point below the accuracy of the well-tuned run.

``python examples/03_rates_that_follow_the_loss.py --help`` lists the options.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import adaptax
from adaptax.bench.shared.arguments import at_least, folder
from adaptax.bench.shared.digits import bundled_digits
from adaptax.bench.shared.networks import pooled_convolution
from adaptax.bench.shared.records import versions
from adaptax.bench.shared.training import batch_order, make_evaluate

BATCH_SIZE = 128
WRONG_BY = 30.0
ONE_POINT = 0.01
CASES = {"well tuned": 1.0, "too large": WRONG_BY, "too small": 1 / WRONG_BY}
COLORS = {"well tuned": "0.6", "too large": "tab:red", "too small": "tab:blue"}


# %%
# The network and its loss
# ------------------------
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


def loss_and_accuracy(network, images, labels):
    """Return the mean cross-entropy of a batch, and its accuracy."""
    logits = network(images.astype(jnp.float32)[..., None] / 255)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    right = jnp.argmax(logits, axis=-1) == labels
    return losses.mean(), right.astype(jnp.float32).mean()


# %%
# The optimizers
# --------------
# A controller scales the constant rate before it, so the same arguments serve a rate of
# any size. The losses of single batches are noisy, so controllers that compare losses
# average them. ``polyak`` takes the rate as its maximum, ``line_search`` as its start.


class Recipe(NamedTuple):
    """An optimizer as a function of its rate, and the best constant rate for it.

    The best was chosen among 1e-3, 2e-3, 4e-3 and 8e-3 for Adam, and among 0.1, 0.3 and
    1 for gradient descent.
    """

    make: Callable[[Any], optax.GradientTransformation]
    well_tuned: float = 4e-3


def adam_with(make_controller):
    """Put a controller behind a constant rate, and both behind Adam."""
    return Recipe(
        lambda rate: adaptax.adam(
            optax.chain(adaptax.constant(rate), make_controller())
        )
    )


def adam_in(wrap):
    """Wrap Adam with a constant rate."""
    return Recipe(lambda rate: wrap(adaptax.adam(rate)))


def descent_with(make_rate):
    """Run gradient descent at a rate that ``make_rate`` derives from the given one."""
    return Recipe(lambda rate: adaptax.gradient_descent(make_rate(rate)), 0.3)


def plateau():
    """Halve the rate when the mean loss of 10 steps has not fallen twice in a row."""
    return adaptax.reduce_on_plateau(factor=0.5, patience=1, window=10)


def in_phases(num_steps):
    """Warm up for a tenth, follow the loss, and cool down over the last fifth."""
    first, last = max(num_steps // 10, 1), max(num_steps // 5, 1)
    return adaptax.phases(
        warmup=adaptax.linear(0.0, total_steps=first, end=1.0),
        controller=adaptax.bold_driver(decay=0.9),
        cooldown=adaptax.linear(1.0, total_steps=last, end=0.0),
        warmup_steps=first,
        cooldown_at=num_steps - last,
    )


def recipes(num_steps):
    """Return the optimizers by the name of their controller or wrapper."""
    bounds: Any = {"min_scale": 1 / WRONG_BY, "max_scale": WRONG_BY}
    return {
        "nothing (Adam)": adam_in(lambda adam: adam),
        "reduce_on_plateau": adam_with(plateau),
        "bold_driver": adam_with(lambda: adaptax.bold_driver(decay=0.9)),
        "greedy": adam_with(lambda: adaptax.greedy(factor=0.7, patience=2, window=10)),
        "loss_ratio": adam_with(lambda: adaptax.loss_ratio(min_scale=0.01, decay=0.9)),
        "phases": adam_with(lambda: in_phases(num_steps)),
        "hypergradient": adam_with(lambda: adaptax.hypergradient(beta=0.1)),
        "gradient_variance": adam_with(lambda: adaptax.gradient_variance(**bounds)),
        "gradient_variance, by norm": adam_with(
            lambda: adaptax.gradient_variance(by="norm", **bounds)
        ),
        "stationarity": adam_with(
            lambda: adaptax.stationarity(factor=0.3, warmup=30, every=10, window=64)
        ),
        "spike_guard": adam_in(adaptax.spike_guard),
        "restore_best": adam_in(lambda adam: adaptax.restore_best(adam, plateau())),
        "reject_increase": adam_in(
            lambda adam: adaptax.reject_increase(
                adam, tolerance=2.0, increase=1.05, decay=0.9
            )
        ),
        "nothing (gradient descent)": descent_with(adaptax.constant),
        "polyak": descent_with(lambda rate: adaptax.polyak(max_rate=rate)),
        "line_search": descent_with(lambda rate: adaptax.line_search(initial=rate)),
    }


# %%
# Training
# --------
# The loss goes to the optimizer as ``value``: controllers follow it. ``line_search``
# asks for the gradient and for the loss as a function too. ``lax.scan`` takes all steps
# in one compiled program. The rate is an argument of it, so a recipe is compiled once
# for all its cases and seeds.


def take_step(graph, optimizer, params, opt_state, images, labels):
    """Return the parameters and the state after a step, and what to record of it."""

    def measure(params):
        return loss_and_accuracy(nnx.merge(graph, params), images, labels)

    (loss, accuracy), gradients = jax.value_and_grad(measure, has_aux=True)(params)
    updates, opt_state = optimizer.update(
        gradients,
        opt_state,
        params,
        value=loss,
        grad=gradients,
        value_fn=lambda params: measure(params)[0],
    )
    return (optax.apply_updates(params, updates), opt_state), {
        "loss": loss,
        "accuracy": accuracy,
        "learning_rate": adaptax.learning_rate(opt_state),
    }


def make_run(recipe, digits):
    """Return a function from a rate and a seed to a test accuracy and a history."""
    graph, _ = nnx.split(Network(nnx.Rngs(0)))
    train_images, train_labels, *test = map(jnp.asarray, digits)
    evaluate = make_evaluate(graph)

    @jax.jit
    def train(rate, params, order):
        optimizer = optax.with_extra_args_support(recipe.make(rate))

        def on_batch(carry, indices):
            params, opt_state = carry
            images, labels = train_images[indices], train_labels[indices]
            return take_step(graph, optimizer, params, opt_state, images, labels)

        carry = params, optimizer.init(params)
        (params, _), history = jax.lax.scan(on_batch, carry, order)
        return params, history

    def run(rate, seed, epochs):
        _, params = nnx.split(Network(nnx.Rngs(seed)))
        key = jax.random.key(seed)
        orders = [
            batch_order(key, len(train_images), BATCH_SIZE, epoch)
            for epoch in range(epochs)
        ]
        params, history = train(rate, params, jnp.concatenate(orders))
        _, accuracy = evaluate(params, *test)
        return float(accuracy), jax.tree.map(np.asarray, history)

    return run


def run_all(arguments, digits):
    """Run every recipe with every rate and seed, and show the progress."""
    steps = len(digits.train_images) // BATCH_SIZE * arguments.epochs
    chosen = recipes(steps)
    if arguments.only:
        chosen = {
            name: recipe
            for name, recipe in chosen.items()
            if name in arguments.only or name.startswith("nothing")
        }
    results: dict[str, Any] = {}
    with Progress() as progress:
        total = len(chosen) * len(CASES) * arguments.seeds
        task = progress.add_task("", total=total)
        for name, recipe in chosen.items():
            run, results[name] = make_run(recipe, digits), {}
            for case, factor in CASES.items():
                progress.update(task, description=f"{name}, {case}")
                results[name][case] = []
                for seed in range(arguments.seeds):
                    rate = jnp.float32(recipe.well_tuned * factor)
                    results[name][case].append(run(rate, seed, arguments.epochs))
                    progress.advance(task)
            shares = (f"{accuracy_of(results, name, case):6.1%}" for case in CASES)
            progress.console.print(f"{name:28}", *shares)
    return results


# %%
# Results
# -------


def accuracy_of(results, name, case):
    """Return the mean accuracy over the seeds."""
    return float(np.mean([accuracy for accuracy, _ in results[name][case]]))


def print_table(console, results, well_tuned):
    """Print the accuracies, with a mark at the rescued runs."""
    table = Table(
        "controller",
        *CASES,
        title=f"Test accuracy; the well-tuned run has {well_tuned:.1%}",
    )
    for name in results:
        accuracies = [accuracy_of(results, name, case) for case in CASES]
        cells = [
            f"{accuracy:.1%} {'✓' if accuracy >= well_tuned - ONE_POINT else ' '}"
            for accuracy in accuracies
        ]
        table.add_row(name, *cells)
    console.print(table)


def plot(path, results):
    """Draw the loss and the rate of the first seed side by side for every recipe."""
    rows = -(-len(results) // 2)
    figure, axes = plt.subplots(
        rows, 4, figsize=(13, 1.9 * rows + 0.8), sharex=True, layout="constrained"
    )
    panels = axes.reshape(-1, 2)
    for name, (loss_axis, rate_axis) in zip(results, panels, strict=False):
        for line, (case, runs) in enumerate(results[name].items()):
            _, history = runs[0]
            style: Any = {"color": COLORS[case], "linewidth": 1.2, "label": case}
            loss_axis.plot(smoothed(history["loss"]), **style)
            rate_axis.plot(history["learning_rate"], **style)
            loss_axis.text(
                0.98,
                0.95 - 0.12 * line,
                f"{accuracy_of(results, name, case):.1%}",
                color=COLORS[case],
                transform=loss_axis.transAxes,
                ha="right",
                va="top",
                fontsize=8,
            )
        loss_axis.set(yscale="log", ylim=(2e-3, 500))
        rate_axis.set(yscale="log")
        loss_axis.set_title(f"{name}: loss", fontsize=9)
        rate_axis.set_title("rate applied", fontsize=9)
        for axis in (loss_axis, rate_axis):
            axis.grid(alpha=0.3)
            axis.tick_params(labelsize=7)
    for axis in panels[len(results) :].flat:
        axis.set_visible(False)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    figure.supxlabel("step; the numbers are final test accuracies", fontsize=9)
    figure.savefig(path, dpi=110)
    return figure


def smoothed(losses, width=10):
    """Average over some steps; losses that are not finite are drawn at the top."""
    losses = np.nan_to_num(losses, nan=1e3, posinf=1e3)
    width = min(width, len(losses))
    return np.convolve(losses, np.full(width, 1 / width), "valid")


def parse(argv):
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--epochs", type=at_least(1), default=10)
    parser.add_argument(
        "--seeds", type=at_least(1), default=1, help="runs of each case"
    )
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="besides the runs without controller"
    )
    parser.add_argument("--out", type=folder, default="runs/rates")
    parser.add_argument("--smoke", action="store_true", help="a run of seconds")
    arguments = parser.parse_args(argv)
    names = recipes(1)
    for name in arguments.only or ():
        if name not in names:
            parser.error(f"there is no {name!r}. There are: {', '.join(names)}.")
    return arguments


def main(argv=None):
    """Run, print a table, and write results and a figure to --out."""
    arguments, console = parse(argv), Console()
    digits = bundled_digits(0)
    if arguments.smoke:
        digits = type(digits)(*(array[:256] for array in digits))
        arguments.epochs = arguments.seeds = 1
        arguments.only = arguments.only or ["bold_driver"]
    results = run_all(arguments, digits)
    well_tuned = max(
        accuracy_of(results, name, "well tuned")
        for name in results
        if "nothing" in name
    )
    print_table(console, results, well_tuned)
    record = {
        "well_tuned": well_tuned,
        "accuracies": {
            name: {
                case: [accuracy for accuracy, _ in runs] for case, runs in cases.items()
            }
            for name, cases in results.items()
        },
        "epochs": arguments.epochs,
        "versions": versions(),
    }
    (arguments.out / "results.json").write_text(json.dumps(record, indent=2) + "\n")
    plot(arguments.out / "rates.png", results)


if __name__ == "__main__":
    main()
