"""
Evolve a schedule with a population
===================================

Search a learning-rate schedule by population-based training. Sixteen copies of a
network train side by side; the worse ones copy the better ones and vary their rate. The
rates of the winner and its ancestors are a schedule. The network is then trained with
it from the start, and compared with the best constant rate of a sweep of the same cost.

``python examples/06_population.py --help`` lists the options.
"""

import argparse
import json

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import adaptax
from adaptax.bench.shared.arguments import at_least, folder
from adaptax.bench.shared.digits import bundled_digits
from adaptax.bench.shared.records import versions
from adaptax.spaces import log_grid, log_uniform

BATCH_SIZE = 64
LOW, HIGH = 1e-4, 1e-1


# %%
# The trial
# ---------
# The loss is a plain function of parameters and a batch. The optimizer is made from the
# hyperparameters of a member, or from a schedule.


def make_trial(digits, make_optimizer):
    """Make a trial of a small network, judged by its loss on the test digits."""

    def init_params(key):
        first, second = jax.random.split(key)
        return {
            "first": jax.random.normal(first, (784, 64)) / 28,
            "bias": jnp.zeros(64),
            "second": jax.random.normal(second, (64, 10)) / 8,
        }

    def logits_of(params, digits):
        pixels = digits["images"].reshape(-1, 784).astype(jnp.float32) / 255
        return jax.nn.relu(pixels @ params["first"] + params["bias"]) @ params["second"]

    def loss(params, digits):
        logits = logits_of(params, digits)
        labels = digits["labels"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def evaluate(params, digits):
        right = logits_of(params, digits).argmax(axis=-1) == digits["labels"]
        return loss(params, digits), {"accuracy": right.astype(jnp.float32).mean()}

    return adaptax.trial(
        init_params,
        loss,
        make_optimizer,
        data={"images": digits.train_images, "labels": digits.train_labels},
        batch_size=BATCH_SIZE,
        evaluate=evaluate,
        eval_data={"images": digits.test_images, "labels": digits.test_labels},
    )


def adam_at(hparams):
    """Return Adam at a member's rate, which may change between intervals."""
    return adaptax.adam(hparams["learning_rate"])


# %%
# The population
# --------------


def evolve(trial, arguments):
    """Train the population; every interval the worst quarter copies the best."""
    return adaptax.population_based_training(
        trial,
        {"learning_rate": log_uniform(LOW, HIGH)},
        num_steps=arguments.steps,
        interval=max(1, arguments.steps // 20),
        members=arguments.members,
        fraction=0.25,
        factors=(0.5, 2.0),
        key=arguments.seed,
        checkpoint=arguments.out / "checkpoints",
    )


# %%
# Training with the schedule
# --------------------------
# ``schedule()`` returns an ordinary schedule. The sweep has a constant rate for each
# member of the population; both are judged on seeds that neither has used.


def compare(population, trial, digits, arguments):
    """Train with the schedule, and with the best constant rate, on fresh seeds."""
    steps = arguments.steps
    constants = adaptax.sweep(
        trial,
        {"learning_rate": log_grid(LOW, HIGH, arguments.members)},
        num_steps=steps,
        key=arguments.seed,
    )
    schedule = population.schedule()
    fresh = {"num_steps": steps, "seeds": range(100, 100 + arguments.seeds)}
    with_schedule = make_trial(digits, lambda _: adaptax.adam(schedule))
    return constants, {
        "schedule": adaptax.sweep(with_schedule, {"unused": [0.0]}, **fresh),
        "best constant": adaptax.sweep(
            trial, {"learning_rate": [constants.best["learning_rate"]]}, **fresh
        ),
    }


def summarize(population, constants, runs):
    """Collect scores, spreads and costs."""
    return {
        "population_loss": float(population.scores[-1].min()),
        "population_member_steps": population.about["member_steps"],
        "constant_rate": constants.best["learning_rate"],
        "constant_loss": float(constants.scores.min()),
        "constant_member_steps": constants.about["member_steps"],
        "fresh_seeds": {
            name: {
                "loss": float(run.scores.mean()),
                "standard_error": float(
                    run.scores.std(ddof=1) / np.sqrt(run.scores.size)
                ),
                "accuracy": float(run.metrics["accuracy"].mean()),
            }
            for name, run in runs.items()
        },
    }


def plot(population, constants):
    """Draw the rates of all members, the winner's in bold, and the scores below."""
    intervals, members = population.scores.shape
    steps = np.arange(intervals + 1) * population.interval
    rates = population.hparams["learning_rate"]
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(7, 6), sharex=True, layout="constrained"
    )
    for member in range(members):
        above.stairs(rates[:, member], steps, color="0.8", baseline=None)
        below.plot(steps[1:], population.scores[:, member], color="0.8", linewidth=0.8)
    lived = population.lived()["learning_rate"]
    above.stairs(lived, steps, color="tab:red", baseline=None, linewidth=2)
    above.axhline(constants.best["learning_rate"], color="tab:blue", linestyle="--")
    path = np.arange(intervals), population.ancestry()
    below.plot(steps[1:], population.scores[path], color="tab:red", linewidth=2)
    below.axhline(constants.scores.min(), color="tab:blue", linestyle="--")
    above.plot([], [], color="tab:red", label="the winner and its ancestors")
    above.plot([], [], color="tab:blue", linestyle="--", label="best constant rate")
    above.legend()
    above.set(yscale="log", ylabel="learning rate")
    below.set(yscale="log", ylabel="test loss", xlabel="step")
    for axis in (above, below):
        axis.grid(alpha=0.3)
    return figure


def parse(argv):
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--members", type=at_least(1), default=16)
    parser.add_argument("--steps", type=at_least(1), default=1000)
    parser.add_argument(
        "--seeds", type=at_least(1), default=5, help="of the comparison"
    )
    parser.add_argument("--seed", type=at_least(0), default=0)
    parser.add_argument("--out", type=folder, default="runs/population")
    parser.add_argument("--smoke", action="store_true", help="a run of seconds")
    arguments = parser.parse_args(argv)
    if arguments.smoke:
        arguments.members, arguments.steps, arguments.seeds = 4, 20, 2
    return arguments


def main(argv=None):
    """Evolve, compare, and write the results and a figure to --out."""
    arguments = parse(argv)
    digits = bundled_digits()
    if arguments.smoke:
        digits = type(digits)(*(array[:256] for array in digits))
    trial = make_trial(digits, adam_at)
    population = evolve(trial, arguments)
    population.save(arguments.out / "population.npz")
    constants, runs = compare(population, trial, digits, arguments)
    results = {**summarize(population, constants, runs), "versions": versions()}
    (arguments.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    plot(population, constants).savefig(arguments.out / "population.png", dpi=120)
    lived = ", ".join(f"{r:.1e}" for r in population.lived()["learning_rate"])
    print(f"The winner's rates: {lived}")
    for name, found in results["fresh_seeds"].items():
        print(
            f"{name:14} loss {found['loss']:.4f} ± {found['standard_error']:.4f}, "
            f"accuracy {found['accuracy']:.2%} on fresh seeds"
        )


if __name__ == "__main__":
    main()
