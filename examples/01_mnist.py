"""
Train an MNIST network with rates that adapt
============================================

Chain transformations to train a Flax network with a rate that warms up, follows a
cosine and is reduced when the loss stops falling. Then read from the optimizer's state
the rate that was applied.

Run it with ``make mnist``, or ``python examples/01_mnist.py --help`` for its options.
"""

import argparse
import csv
import hashlib
import json
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

import adaptax
from adaptax import catalog
from adaptax.bench.shared import digits as digits_data
from adaptax.bench.shared.arguments import at_least, folder
from adaptax.bench.shared.networks import pooled_convolution
from adaptax.bench.shared.records import versions
from adaptax.bench.shared.training import batch_order, make_evaluate

COLUMNS = ("loss", "accuracy", "learning_rate", "update_to_parameter_ratio")
STEPS_PER_CALL = 50


# %%
# The network and its loss
# ------------------------
# This is plain Flax. ``pooled_convolution`` is a convolution followed by 2×2 pooling
# that takes less time on a CPU than XLA's own; without that argument, pool with
# ``nnx.max_pool`` after each layer.


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
# The optimizer
# -------------
# Rates multiply: the plateau controller scales the rate of the schedule. Methods that
# infer their rate, such as ``prodigy``, multiply it by the ``learning_rate`` argument.
# ``monitor`` adds the norms of gradients, updates and parameters to the state.


def make_optimizer(arguments, total_steps, steps_per_epoch):
    """Chain clipping, the optimizer, its schedule and a rate that follows the loss."""
    optimizer: Any = catalog.find(arguments.optimizer, "optimizer")
    shape: Any = catalog.find(arguments.schedule, "schedule")
    plateau = adaptax.reduce_on_plateau(factor=0.5, patience=1, window=steps_per_epoch)
    rate = optax.chain(shape.over(arguments.learning_rate, total_steps), plateau)
    if optimizer.direction:
        descent = optax.chain(optimizer.direction(), rate, optax.scale(-1.0))
    elif optimizer.has_seat:  # it infers a rate and multiplies it by ours
        descent = optimizer.factory(learning_rate=rate)
    else:  # its updates are complete; our rate scales them
        descent = optax.chain(optimizer.factory(), rate)
    return adaptax.monitor(optax.chain(optax.clip_by_global_norm(1.0), descent))


# %%
# A training step
# ---------------
# The loss goes to the optimizer as ``value``: controllers follow it. ``learning_rate``
# reads from the new state the rate that was applied. ``lax.scan`` takes many steps in
# one compiled program.


class TrainState(NamedTuple):
    """What training carries from step to step."""

    params: Any
    opt_state: Any


def make_train(graph, optimizer):
    """Compile `train(state, images, labels, order)`, a step for each row of indices."""

    def step(state, images, labels):
        def measure(params):
            return loss_and_accuracy(nnx.merge(graph, params), images, labels)

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
        return TrainState(params, opt_state), {
            "loss": loss,
            "accuracy": accuracy,
            "learning_rate": adaptax.learning_rate(opt_state),
            "update_to_parameter_ratio": opt_state.update_to_parameter_ratio,
        }

    def train(state, images, labels, order):
        def on_batch(state, indices):
            return step(state, images[indices], labels[indices])

        return jax.lax.scan(on_batch, state, order)

    return jax.jit(train, donate_argnums=0)


# %%
# The run
# -------
# Each call to ``train`` takes about 50 steps. The run is saved after each epoch:
# ``--resume`` continues it after an interruption.


class Run:
    """One training run: its options, its data, its state and its files."""

    def __init__(self, arguments, console):
        self.arguments, self.console = arguments, console
        self.digits = load_digits(arguments)
        self.key = jax.random.key(arguments.seed)
        steps_per_epoch = len(self.digits.train_images) // arguments.batch_size
        if steps_per_epoch == 0:
            sys.exit(
                f"--batch-size {arguments.batch_size} is more than the training set."
            )
        self.steps_per_epoch = steps_per_epoch
        total_steps = arguments.epochs * steps_per_epoch
        graph, params = nnx.split(Network(nnx.Rngs(arguments.seed)))
        optimizer = make_optimizer(arguments, total_steps, steps_per_epoch)
        self.state = TrainState(params, jax.jit(optimizer.init)(params))
        self.train = make_train(graph, optimizer)
        self.evaluate = make_evaluate(graph)
        self.num_parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
        self.history = {name: np.zeros(0, np.float32) for name in COLUMNS}
        self.seconds = []
        self.first_epoch = 0
        self.checkpoints = Checkpoints(
            arguments.out / "checkpoints", options(arguments)
        )

    def resume(self):
        """Continue from the last epoch whose checkpoint is intact."""
        saved = self.checkpoints.restore(self.state)
        if saved is None:
            self.console.print("There is no run to resume: starting a new one.")
            return
        epoch, self.state = saved
        self.first_epoch, steps = epoch, epoch * self.steps_per_epoch
        self.history = read_history(self.arguments.out / "history.csv", steps)
        self.console.print(f"Resumed after epoch {epoch}.")

    def evaluated_params(self):
        """Return the parameters to evaluate; for a schedule-free method they differ."""
        return adaptax.eval_params(self.state.opt_state, self.state.params)

    def train_all(self):
        """Train to the last epoch, and return the test loss and accuracy."""
        train_images, train_labels, *test = map(jnp.asarray, self.digits)
        self.console.print(
            f"{'epoch':>5} {'loss':>8} {'accuracy':>9} {'test loss':>10} "
            f"{'test acc.':>10} {'rate':>9} {'ms/step':>8}"
        )
        result = self.evaluate(self.evaluated_params(), *test)
        with progress_bar(self.console) as progress:
            total = (self.arguments.epochs - self.first_epoch) * self.steps_per_epoch
            task = progress.add_task("", total=total, loss=0.0, accuracy=0.0, rate=0.0)
            for epoch in range(self.first_epoch, self.arguments.epochs):
                self.train_epoch(epoch, train_images, train_labels, progress, task)
                result = self.evaluate(self.evaluated_params(), *test)
                self.finish_epoch(epoch, *map(float, result))
        self.checkpoints.close()
        return tuple(map(float, result))

    def train_epoch(self, epoch, images, labels, progress, task):
        """Train one epoch in several calls, and show the mean of each call."""
        order = batch_order(self.key, len(images), self.arguments.batch_size, epoch)
        for indices in split_evenly(order):
            start = time.perf_counter()
            self.state, records = self.train(self.state, images, labels, indices)
            records = jax.tree.map(np.asarray, records)
            self.seconds.append((time.perf_counter() - start) / len(indices))
            self.history = {
                name: np.append(self.history[name], records[name]) for name in COLUMNS
            }
            progress.update(
                task,
                advance=len(indices),
                loss=records["loss"].mean(),
                accuracy=records["accuracy"].mean(),
                rate=records["learning_rate"][-1],
            )

    def finish_epoch(self, epoch, test_loss, test_accuracy):
        """Print a row of the table; save the history, then the state."""
        loss, accuracy, rate, _ = (
            self.history[name][-self.steps_per_epoch :] for name in COLUMNS
        )
        self.console.print(
            f"{epoch + 1:5d} {loss.mean():8.4f} {accuracy.mean():9.2%} "
            f"{test_loss:10.4f} {test_accuracy:10.2%} {rate[-1]:9.2e} "
            f"{self.milliseconds():8.1f}"
        )
        write_history(self.arguments.out / "history.csv", self.history)
        self.checkpoints.save(epoch + 1, self.state)

    def milliseconds(self):
        """Return the median time of a step, hardly changed by calls that compile."""
        return 1000 * statistics.median(self.seconds) if self.seconds else 0.0


def split_evenly(order):
    """Split an epoch's batches into calls of equal length, to compile only once."""
    steps = len(order)
    fewest = -(-steps // STEPS_PER_CALL)
    divisors = [n for n in range(fewest, 4 * fewest) if steps % n == 0]
    return np.array_split(order, divisors[0] if divisors else fewest)


def load_digits(arguments):
    """Load the digits that the options name, or the first 512 for --smoke."""
    try:
        if arguments.download:
            arguments.data = digits_data.download_digits(arguments.data or "data/mnist")
        if arguments.data:
            loaded = digits_data.read_digits(arguments.data)
        else:
            loaded = digits_data.bundled_digits(arguments.seed)
    except (OSError, ValueError, ImportError) as error:
        sys.exit(f"Cannot load the digits: {error}")
    if not arguments.smoke:
        return loaded
    return digits_data.Digits(*(array[:512] for array in loaded))


# %%
# Saving and resuming
# -------------------
# Orbax writes a checkpoint completely or not at all. A digest of its arrays detects
# later damage; the previous checkpoint is used then.


class Checkpoints:
    """The checkpoints of a run's two latest epochs, with the options of the run."""

    def __init__(self, folder, options):
        self.options = options
        self.manager = ocp.CheckpointManager(
            folder.absolute(), options=ocp.CheckpointManagerOptions(max_to_keep=2)
        )

    def save(self, epoch, state):
        """Save the state after an epoch."""
        about = {"options": self.options, "digest": digest(state)}
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(state), about=ocp.args.JsonSave(about)
        )
        self.manager.save(epoch, args=arguments)
        self.manager.wait_until_finished()

    def restore(self, like):
        """Return the latest epoch with an intact checkpoint and its state, or None."""
        for epoch in sorted(self.manager.all_steps(), reverse=True):
            arguments = ocp.args.Composite(
                state=ocp.args.StandardRestore(like), about=ocp.args.JsonRestore()
            )
            try:
                restored = self.manager.restore(epoch, args=arguments)
            except (OSError, ValueError, KeyError) as error:
                print(f"Checkpoint {epoch} cannot be read ({type(error).__name__}).")
                continue
            about, state = restored["about"], restored["state"]
            if about["options"] != self.options:
                sys.exit(
                    f"The run in {self.manager.directory.parent} was made with other "
                    f"options, {about['options']}. Resume with the same ones, or "
                    "name another --out."
                )
            if about["digest"] == digest(state):
                return epoch, state
            print(f"Checkpoint {epoch} is damaged.")
        return None

    def clear(self):
        """Delete the checkpoints of an earlier run."""
        for epoch in self.manager.all_steps():
            self.manager.delete(epoch)

    def close(self):
        """Wait until everything is written."""
        self.manager.close()


def digest(state):
    """Hash every array of a state."""
    whole = hashlib.sha256()
    for leaf in jax.tree.leaves(state):
        whole.update(np.asarray(leaf).tobytes())
    return whole.hexdigest()


def write_history(path, history):
    """Write one row for each step, to a temporary file first."""
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", *history])
        for step, row in enumerate(zip(*history.values(), strict=True)):
            writer.writerow([step, *map(repr, map(float, row))])
    partial.replace(path)


def read_history(path, steps):
    """Read the rows of the first steps."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))[:steps]
    return {name: np.array([row[name] for row in rows], np.float32) for name in COLUMNS}


# %%
# Progress and figure
# -------------------


def progress_bar(console):
    """Show the steps done, the loss, the accuracy and the current learning rate."""
    return Progress(
        BarColumn(),
        TextColumn("step {task.completed}/{task.total}"),
        TextColumn("loss {task.fields[loss]:.4f}"),
        TextColumn("accuracy {task.fields[accuracy]:.2%}"),
        TextColumn("learning rate {task.fields[rate]:.2e}"),
        TimeRemainingColumn(),
        console=console,
    )


def plot_history(path, history, steps_per_epoch):
    """Draw loss, accuracy, learning rate and update-to-parameter ratio by epoch."""
    epochs = np.arange(1, len(history["loss"]) + 1) / steps_per_epoch
    width = max(1, steps_per_epoch // 10)
    panels = (
        ("loss", "training loss", "log"),
        ("accuracy", "training accuracy", "linear"),
        ("learning_rate", "learning rate applied", "linear"),
        ("update_to_parameter_ratio", "update-to-parameter ratio", "log"),
    )
    figure, axes = plt.subplots(2, 2, figsize=(9, 6), sharex=True, layout="constrained")
    for axis, (name, title, scale) in zip(axes.flat, panels, strict=True):
        axis.plot(epochs, history[name], color="tab:blue", alpha=0.3, linewidth=0.8)
        smooth = np.convolve(history[name], np.full(width, 1 / width), "valid")
        axis.plot(epochs[width - 1 :], smooth, color="tab:blue")
        axis.set(title=title, yscale=scale)
        axis.grid(alpha=0.3)
    for axis in axes[1]:
        axis.set_xlabel("epoch")
    figure.savefig(path, dpi=120)
    return figure


def options(arguments):
    """Return the options that decide what a run computes."""
    names = ("optimizer", "schedule", "learning_rate", "epochs", "batch_size", "seed")
    chosen = {name: getattr(arguments, name) for name in names}
    return {**chosen, "bundled": arguments.data is None, "smoke": arguments.smoke}


def parse(argv):
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--optimizer", default="adam", help="a name from the catalogue")
    parser.add_argument(
        "--schedule", default="cosine", help="a name from the catalogue"
    )
    parser.add_argument("--learning-rate", type=float, help="default: the usual one")
    parser.add_argument("--epochs", type=at_least(1), default=10)
    parser.add_argument("--batch-size", type=at_least(1), default=128)
    parser.add_argument("--seed", type=at_least(0), default=0)
    parser.add_argument("--data", type=Path, help="folder of the four MNIST files")
    parser.add_argument("--download", action="store_true", help="download them first")
    parser.add_argument("--out", type=folder, default="runs/mnist")
    parser.add_argument(
        "--resume", action="store_true", help="continue after the last saved epoch"
    )
    parser.add_argument("--smoke", action="store_true", help="a run of seconds")
    arguments = parser.parse_args(argv)
    try:
        optimizer: Any = catalog.find(arguments.optimizer, "optimizer")
        if catalog.find(arguments.schedule, "schedule").over is None:
            raise ValueError(f"{arguments.schedule} cannot be spread over a run.")
        if arguments.learning_rate is None:
            arguments.learning_rate = optimizer.usual_rate
        adaptax.descend(arguments.learning_rate)
    except ValueError as error:
        parser.error(str(error))
    if arguments.smoke:
        arguments.epochs, arguments.batch_size = min(arguments.epochs, 2), 32
    return arguments


def main(argv=None):
    """Train, and write history, results, a figure and checkpoints to --out."""
    arguments, console = parse(argv), Console()
    run = Run(arguments, console)
    if arguments.resume:
        run.resume()
    else:
        run.checkpoints.clear()
    loss, accuracy = run.train_all()
    results = {
        "loss": loss,
        "accuracy": accuracy,
        "ms_per_step": run.milliseconds(),
        "parameters": run.num_parameters,
        "parameters_sha256": digest(run.state.params),
        "options": options(arguments),
        "seed": arguments.seed,
        "versions": versions(),
    }
    (arguments.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    plot_history(arguments.out / "training.png", run.history, run.steps_per_epoch)
    print(f"Loss: {loss:.4f}")
    print(f"Accuracy: {accuracy:.4f}")


if __name__ == "__main__":
    main()
