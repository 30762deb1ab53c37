"""
Search a schedule by evolution
==============================

Search a schedule with an evolution strategy, and compare it with the best cosine. A
small network classifies digits of 8×8 pixels. The strategy varies the logarithm of
Adam's rate at six knots; every candidate is trained to the end. A grid of cosines with
warm-up gets as many runs. Both are then judged by the loss on held-out digits, with
seeds that were not used to choose them.

``python examples/07_search_a_schedule.py --help`` lists the options.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from sklearn.datasets import load_digits

import adaptax
from adaptax import plots
from adaptax.bench.shared.arguments import at_least, folder
from adaptax.bench.shared.records import versions

BATCH_SIZE = 32
HIDDEN = 32
TRAINING = 1297  # digits; 500 are held out


# %%
# The network
# -----------
# The ``Trial`` is a network with one hidden layer, its loss, and an optimizer whose
# rate is a hyperparameter. The search sets the rate at each step.


def digits():
    """Return the training digits and the held-out digits, shuffled."""
    bundled: Any = load_digits()
    order = np.random.default_rng(0).permutation(len(bundled.target))
    everything = {
        "images": (bundled.data[order] / 16).astype(np.float32),
        "labels": bundled.target[order].astype(np.int32),
    }
    return [
        {name: array[part] for name, array in everything.items()}
        for part in (slice(TRAINING), slice(TRAINING, None))
    ]


def init_params(key):
    """Draw the first parameters."""
    first, second = jax.random.split(key)
    return {
        "hidden": jax.random.normal(first, (64, HIDDEN)) * np.sqrt(2 / 64),
        "hidden_bias": jnp.zeros(HIDDEN),
        "output": jax.random.normal(second, (HIDDEN, 10)) * np.sqrt(1 / HIDDEN),
        "output_bias": jnp.zeros(10),
    }


def loss(params, batch):
    """Return the mean cross-entropy."""
    return evaluate(params, batch)[0]


def evaluate(params, batch):
    """Return the mean cross-entropy, which is the score, and the accuracy."""
    hidden = jax.nn.relu(batch["images"] @ params["hidden"] + params["hidden_bias"])
    logits = hidden @ params["output"] + params["output_bias"]
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
    hits = jnp.argmax(logits, axis=1) == batch["labels"]
    return jnp.mean(losses), {"accuracy": jnp.mean(hits)}


def make_trial():
    """Put network, data and optimizer together."""
    training, held_out = digits()
    return adaptax.trial(
        init_params,
        loss,
        lambda hparams: adaptax.adam(hparams["learning_rate"]),
        training,
        BATCH_SIZE,
        evaluate=evaluate,
        eval_data=held_out,
    )


# %%
# The search
# ----------
# Four seeds for each candidate reduce the noise in its score. All runs, including the
# cosines, are in one compiled program.


def search(arguments):
    """Search a schedule, with fewer runs for --smoke."""
    small: Any = {"population": 6, "generations": 3, "seeds": 1, "fresh_seeds": 4}
    full: Any = {"population": 16, "generations": 20, "seeds": 4, "fresh_seeds": 64}
    return adaptax.search_schedule(
        make_trial(),
        num_steps=arguments.steps,
        low=1e-4,
        high=1.0,
        key=arguments.seed,
        checkpoint=arguments.checkpoint,
        **(small if arguments.smoke else full),
    )


# %%
# Results
# -------
# The losses are means over the fresh seeds. The gain is the mean of the differences
# seed by seed; a gain below two standard errors may be chance.


def report(console, result):
    """Print the rates at the knots, the two scores, and the gain."""
    rates = ", ".join(f"{rate:.2g}" for rate in np.exp(result.log_rates))
    cosine = result.baseline
    console.print(f"searched schedule: {rates} at the knots")
    console.print(
        f"best cosine: peak {cosine.peak:.2g}, warm-up {cosine.warmup_share:.0%}"
    )
    for name, found in (("searched", result), ("cosine", cosine)):
        accuracy = found.metrics["accuracy"].mean()
        console.print(f"{name}: loss {found.score:.4f}, accuracy {accuracy:.2%}")
    difference, error = result.gain
    console.print(f"gain: {difference:.4f} ± {error:.4f}")


def parse(argv):
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--steps", type=at_least(6), default=300, help="of each run")
    parser.add_argument("--seed", type=at_least(0), default=0)
    parser.add_argument("--out", type=folder, default="runs/search")
    parser.add_argument(
        "--checkpoint", type=Path, help="folder to continue from after an interruption"
    )
    parser.add_argument("--smoke", action="store_true", help="a run of seconds")
    return parser.parse_args(argv)


def main(argv=None):
    """Search, print the numbers, and write results and a figure to --out."""
    arguments, console = parse(argv), Console()
    if arguments.smoke:
        arguments.steps = min(arguments.steps, 40)
    result: Any = search(arguments)
    report(console, result)
    record = {
        "log_rates": result.log_rates.tolist(),
        "searched": result.score,
        "cosine": result.baseline.score,
        "gain": result.gain._asdict(),
        "seconds": result.about["seconds"],
        "compilations": result.about["compilations"],
        "versions": versions(),
    }
    (arguments.out / "results.json").write_text(json.dumps(record, indent=2) + "\n")
    result.save(arguments.out / "search.npz")
    plots.search(result).savefig(arguments.out / "search.png", dpi=110)


if __name__ == "__main__":
    main()
