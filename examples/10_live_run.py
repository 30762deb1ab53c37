"""
A run that takes orders
=======================

A run was planned for 600 steps of a cosine. After 200 somebody wants it to go on for
longer, and after 700 the machine is needed for something else. Nothing is started anew:
the run is stretched to 1,200 steps, and later cooled down within 150. It reads its
digits from a stream, from which the finder chose its rate. If it is killed, in the
cool-down as well, ``--resume`` continues it with the same batches and rates, to the
same parameters.

You can give an order of your own while it runs, by writing a file::

    echo '{"cool_down": 100}' > runs/live_run/order.json

``python examples/10_live_run.py --help`` lists the options.
"""

import argparse
import hashlib
import json
import sys
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx

import adaptax
from adaptax.bench.shared.arguments import at_least, folder
from adaptax.bench.shared.digits import bundled_digits

BATCH_SIZE = 64


# %%
# The network
# -----------
# Plain Flax.


class Network(nnx.Module):
    """Two convolutions of stride 2, and a dense layer."""

    def __init__(self, rngs):
        self.first = nnx.Conv(1, 16, (3, 3), strides=2, rngs=rngs)
        self.second = nnx.Conv(16, 32, (3, 3), strides=2, rngs=rngs)
        self.output = nnx.Linear(7 * 7 * 32, 10, rngs=rngs)

    def __call__(self, images):
        """Map images (N, 28, 28) to logits (N, 10)."""
        hidden = images.astype(jnp.float32)[..., None] / 255
        hidden = nnx.relu(self.second(nnx.relu(self.first(hidden))))
        return self.output(hidden.reshape(len(hidden), -1))


# %%
# A stream
# --------
# ``batches(start)`` goes on for ever, from any step: a resumed run asks for the batch
# at which it stopped. ``adaptax.stream`` gives the same batches to the finder, which
# looks for the peak of the cosine.


def make_batches(images, labels, seed):
    """Return the function `batches(start)`, which yields a batch for each step."""

    def batches(start):
        step = start
        while True:
            generator = np.random.default_rng((seed, step))
            rows = generator.integers(len(images), size=BATCH_SIZE)
            yield {"images": images[rows], "labels": labels[rows]}
            step += 1

    return batches


# %%
# The training step
# -----------------
# ``steerable`` stands around the rate. Its orders are numbers in the optimizer's state,
# so a step is compiled once, whatever is ordered.


class TrainState(NamedTuple):
    """What training carries from step to step."""

    params: Any
    opt_state: Any


class Training:
    """The network, its optimizer, and a compiled step."""

    def __init__(self, seed, planned):
        self.graph, self.params = nnx.split(Network(nnx.Rngs(seed)))
        self.planned = planned
        self.loss = jax.jit(self._loss)

    def start(self, rate):
        """Make the optimizer of a rate, and return the state before the first step."""
        schedule = adaptax.cosine(rate, self.planned, warmup_steps=self.planned // 20)
        self.optimizer = adaptax.adamw(adaptax.steerable(schedule))
        self.step = jax.jit(self._step, donate_argnums=0)
        params = jax.tree.map(jnp.copy, self.params)  # the step donates them
        return TrainState(params, self.optimizer.init(params))

    def find_rate(self, batches):
        """Run the finder on the same stream, and return its suggestion."""
        trial = adaptax.trial(
            lambda key: self.params,
            self._loss,
            lambda hparams: adaptax.adamw(hparams["learning_rate"]),
            adaptax.stream(batches),
        )
        found = adaptax.find_learning_rate(trial, num_steps=100, progress=False)
        return found.suggestions["valley"]

    def _loss(self, params, batch):
        logits = nnx.merge(self.graph, params)(batch["images"])
        losses = optax.softmax_cross_entropy_with_integer_labels(
            logits, batch["labels"]
        )
        return losses.mean()

    def _step(self, state, batch):
        loss, grads = jax.value_and_grad(self._loss)(state.params, batch)
        updates, opt_state = self.optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(params, opt_state), loss, adaptax.learning_rate(opt_state)

    def accuracy(self, params, images, labels):
        """Return the share of digits that are recognized."""
        logits = nnx.merge(self.graph, params)(images)
        return float((logits.argmax(-1) == labels).mean())


# %%
# Orders
# ------
# Each order changes the state, and the step at which the run ends.


def carry_out(order, run):
    """Carry out an order such as {"cool_down": 100}, and return whether it could be."""
    try:
        ((name, steps),) = order.items()
        if name == "stretch_run":
            opt_state = adaptax.stretch_run(run.state.opt_state, steps)
            run.end = steps
        elif name == "cool_down":
            opt_state = adaptax.cool_down(run.state.opt_state, steps)
            run.end = run.step + steps
        else:
            raise ValueError(f"there is no {name!r}, only stretch_run and cool_down")
    except (AttributeError, TypeError, ValueError) as error:
        print(f"step {run.step}: the order {order!r} is not carried out: {error}")
        return False
    run.state = run.state._replace(opt_state=opt_state)
    run.given.append((run.step, name))
    print(f"step {run.step}: {name}, {steps} steps; the run ends at step {run.end}.")
    return True


def written_order(path):
    """Return the order that somebody wrote into a file."""
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        return f"{path} ({error})"


# %%
# The run
# -------
# Between two steps it looks for orders. Now and then, and after each order, it saves
# what a resumed run needs: parameters, optimizer state, the step and the end.


@dataclass
class Run:
    """A run at a step: its state, and what was recorded and ordered so far."""

    state: TrainState
    peak: float
    end: int
    step: int = 0
    losses: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    given: list[tuple[int, str]] = field(default_factory=list)


class Checkpoints:
    """The two latest checkpoints of a run."""

    def __init__(self, path, options):
        self.options = options
        self.manager = ocp.CheckpointManager(
            path.absolute(), options=ocp.CheckpointManagerOptions(max_to_keep=2)
        )

    def save(self, run):
        """Save a run before its next step."""
        if run.step in self.manager.all_steps():  # an order came when it was just saved
            self.manager.delete(run.step)
        about = {name: value for name, value in vars(run).items() if name != "state"}
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(run.state),
            about=ocp.args.JsonSave(about | {"options": self.options}),
        )
        self.manager.save(run.step, args=arguments, force=True)
        self.manager.wait_until_finished()

    def latest(self, like):
        """Return the run of the last checkpoint, or `None`."""
        step = self.manager.latest_step()
        if step is None:
            return None
        arguments = ocp.args.Composite(
            state=ocp.args.StandardRestore(like), about=ocp.args.JsonRestore()
        )
        restored = self.manager.restore(step, args=arguments)
        about = restored["about"]
        if (options := about.pop("options")) != self.options:
            sys.exit(
                f"The run in {self.manager.directory.parent} was made with other "
                f"options, {options}. Resume with the same ones, or name another --out."
            )
        about["given"] = [tuple(order) for order in about["given"]]
        return Run(restored["state"], **about)

    def clear(self):
        """Delete the checkpoints of an earlier run."""
        for step in self.manager.all_steps():
            self.manager.delete(step)


def train(training, batches, run, orders, checkpoints, every, order_file):
    """Train to the end, wherever the orders move it.

    `orders` has an order for some steps; `order_file` is where others may appear. A
    checkpoint is saved after `every` steps.
    """
    for batch in batches(run.step):
        order = written_order(order_file)
        if order is None and all(step != run.step for step, _ in run.given):
            order = orders.get(run.step)
        if order is not None:
            if carry_out(order, run):
                checkpoints.save(run)
            order_file.unlink(missing_ok=True)
        if run.step >= run.end:
            return
        run.state, loss, rate = training.step(run.state, batch)
        run.losses.append(float(loss))
        run.rates.append(float(rate))
        run.step += 1
        if run.step % every == 0:
            checkpoints.save(run)


# %%
# Results
# -------


def plot(path, run):
    """Draw the loss and the rate of each step, and the orders."""
    figure, axes = plt.subplots(2, figsize=(8, 5), sharex=True, layout="constrained")
    axes[0].plot(run.losses)
    axes[0].set(ylabel="training loss", yscale="log")
    axes[1].plot(run.rates)
    axes[1].set(ylabel="learning rate", xlabel="step")
    for step, order in run.given:
        for axis in axes:
            axis.axvline(step, color="tab:gray", linestyle="--")
        place = (step, max(run.rates))
        axes[1].annotate(order, place, (4, 0), textcoords="offset points", va="top")
    figure.savefig(path, dpi=110)
    return figure


def main(argv=None):
    """Train, follow the orders, and write results, figure and checkpoints to --out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument(
        "--learning-rate", type=float, help="the peak of the cosine, or the finder's"
    )
    parser.add_argument("--seed", type=at_least(0), default=0)
    parser.add_argument("--resume", action="store_true", help="continue a killed run")
    parser.add_argument("--smoke", action="store_true", help="a run of seconds")
    parser.add_argument("--out", type=folder, default="runs/live_run")
    arguments = parser.parse_args(argv)
    part = 20 if arguments.smoke else 1
    plan = 600 // part
    orders = {
        200 // part: {"stretch_run": 1200 // part},
        700 // part: {"cool_down": 150 // part},
    }
    digits = bundled_digits(arguments.seed)
    batches = make_batches(digits.train_images, digits.train_labels, arguments.seed)
    training = Training(arguments.seed, plan)
    names = ("learning_rate", "seed", "smoke")
    options = {name: getattr(arguments, name) for name in names}
    checkpoints = Checkpoints(arguments.out / "checkpoints", options)
    run = checkpoints.latest(training.start(1.0)) if arguments.resume else None
    if run is not None:
        training.start(run.peak)
        print(f"Resumed at step {run.step}.")
    else:
        checkpoints.clear()
        rate = arguments.learning_rate
        if rate is None and (rate := training.find_rate(batches)) is None:
            sys.exit("The finder has no suggestion: give a --learning-rate.")
        try:
            run = Run(training.start(rate), rate, end=plan)
        except ValueError as error:
            parser.error(f"--learning-rate: {error}")
        print(f"step 0: a cosine from {rate:.2g}, {plan} steps.")
    order_file = arguments.out / "order.json"
    train(training, batches, run, orders, checkpoints, 100 // part, order_file)
    accuracy = training.accuracy(
        run.state.params, digits.test_images, digits.test_labels
    )
    results = {
        "accuracy": accuracy,
        "orders": run.given,
        "rates": run.rates,
        "parameters_sha256": digest(run.state.params),
    }
    (arguments.out / "results.json").write_text(json.dumps(results) + "\n")
    plot(arguments.out / "live_run.png", run)
    print(f"{run.step} steps, accuracy {accuracy:.4f}")


def digest(params):
    """Hash all parameters."""
    whole = hashlib.sha256()
    for leaf in jax.tree.leaves(params):
        whole.update(np.asarray(leaf).tobytes())
    return whole.hexdigest()


if __name__ == "__main__":
    main()
