"""Train the MNIST network with Adam's moments in 32, 16 and 8 bits.

Each format trains the network on the bundled digits with the same seeds. The table has
the bytes of the state per parameter, the mean accuracy on the test digits over the
seeds, and the mean difference in accuracy to float32, both with standard errors.
"""

import argparse
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import adaptax
from adaptax.bench.shared.arguments import at_least
from adaptax.bench.shared.digits import Digits, bundled_digits
from adaptax.bench.shared.networks import digit_network
from adaptax.bench.shared.records import report
from adaptax.bench.shared.training import loss_and_accuracy

BATCH_SIZE = 128
FLOATS = "float32"
WAYS: dict[str, Callable[[Any], optax.GradientTransformation]] = {
    FLOATS: adaptax.adam,
    "bfloat16": lambda rate: adaptax.adam(rate, accumulator_dtype=jnp.bfloat16),
    "8 bits": lambda rate: adaptax.quantized(adaptax.adam(rate)),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument(
        "--steps", type=at_least(1), default=310, help="training steps a run"
    )
    parser.add_argument(
        "--seeds", type=at_least(2), default=10, help="runs of each way"
    )
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--smoke", action="store_true", help="two runs of two steps")


def run(arguments: argparse.Namespace) -> None:
    """Train with every format, and report."""
    digits, steps, seeds = bundled_digits(0), arguments.steps, arguments.seeds
    if arguments.smoke:
        digits = Digits(*(array[:16] for array in digits))
        steps, seeds = 2, 2
    accuracies: dict[str, np.ndarray] = {}
    rows = []
    for way, optimizer in WAYS.items():
        trial = _trial(digits, optimizer)
        space = {"learning_rate": arguments.learning_rate}
        swept = adaptax.sweep(trial, space, num_steps=steps, seeds=seeds)
        accuracies[way] = 100 * swept.metrics["accuracy"].ravel()
        gained = accuracies[way] - accuracies[FLOATS]
        rows.append(
            {
                "moments": way,
                "bytes_a_parameter": _state_bytes(trial),
                "accuracy": float(accuracies[way].mean()),
                "standard_error": _standard_error(accuracies[way]),
                "gained": float(gained.mean()),
                "standard_error_of_gain": _standard_error(gained),
            }
        )
    report("memory", rows, arguments.out)


def _trial(
    digits: Digits, optimizer: Callable[[Any], optax.GradientTransformation]
) -> adaptax.Trial:
    network, init = digit_network()

    def measure(params, batch):
        return loss_and_accuracy(network, params, batch["images"], batch["labels"])

    def evaluate(params, batch):
        loss, accuracy = measure(params, batch)
        return loss, {"accuracy": accuracy}

    return adaptax.trial(
        init,
        lambda params, batch: measure(params, batch)[0],
        lambda hparams: optimizer(hparams["learning_rate"]),
        {"images": digits.train_images, "labels": digits.train_labels},
        min(BATCH_SIZE, len(digits.train_labels)),
        evaluate=evaluate,
        eval_data={"images": digits.test_images, "labels": digits.test_labels},
    )


def _state_bytes(trial: adaptax.Trial) -> float:
    state = jax.eval_shape(trial.init, {"learning_rate": 0.1}, jax.random.key(0))
    size = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    leaves = jax.tree.leaves(state.opt_state)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves) / size


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / len(values) ** 0.5)
