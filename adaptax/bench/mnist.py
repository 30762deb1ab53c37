"""Time a training step of the MNIST network, adaptax and PyTorch side by side.

The same network, batch and optimizer (Adam) in every way of running it, in one run of
rounds in which each takes its turn, so that a slow moment of the machine meets all of
them. What is reported is the median over the rounds, and the median of the ratios to
PyTorch within a round. PyTorch trains in a process of its own, idle between its turns;
it needs the `peers` extra, and without it the rest is measured.
"""

import argparse
import importlib.util
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import adaptax
from adaptax.bench.networks import DigitNetwork
from adaptax.bench.records import machine, report
from adaptax.bench.training import TrainState, make_train

EXAMPLES = 10_000
BASELINE = "PyTorch, channels_last"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--rounds", type=int, default=9, help="turns that each takes")
    parser.add_argument("--steps", type=int, default=50, help="training steps a turn")
    parser.add_argument("--batch-size", type=int, default=128)


def run(arguments: argparse.Namespace) -> None:
    """Measure every way in turns, and report."""
    steps, batch_size = arguments.steps, arguments.batch_size
    ways = {
        "adaptax, scan over steps": _jax_way(steps, batch_size),
        "adaptax, one call a step": _jax_way(1, batch_size),
    }
    if importlib.util.find_spec("torch"):
        ways[BASELINE] = _torch_way(batch_size, "channels_last")
        ways["PyTorch, contiguous"] = _torch_way(batch_size, "contiguous")
    else:
        print('Without PyTorch, since it is missing: pip install "adaptax[peers]".')
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(arguments.rounds + 1):
        for name, train in ways.items():
            taken = train(steps) / steps
            if turn > 0:  # the first turn compiles
                seconds[name].append(taken)
    report("mnist", [_row(name, seconds) for name in ways], arguments.out)


def _row(name: str, seconds: dict[str, list[float]]) -> dict[str, Any]:
    times = seconds[name]
    row = {
        "way": name,
        "ms_per_step": 1000 * statistics.median(times),
        "fastest_ms": 1000 * min(times),
        "slowest_ms": 1000 * max(times),
    }
    if BASELINE in seconds:
        pairs = zip(times, seconds[BASELINE], strict=True)
        row["ratio_to_pytorch"] = statistics.median(one / other for one, other in pairs)
    return row


def _jax_way(steps_per_call: int, batch_size: int) -> Callable[[int], float]:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (EXAMPLES, 28, 28), dtype=np.uint8)
    labels = generator.integers(0, 10, EXAMPLES, dtype=np.int32)
    network, params = nnx.split(DigitNetwork(rngs=nnx.Rngs(0)))
    optimizer = optax.with_extra_args_support(adaptax.adam(1e-3))
    train = make_train(network, optimizer)
    carried = [TrainState(params, optimizer.init(params))]
    data = jnp.asarray(images), jnp.asarray(labels)

    def advance(steps):
        start = time.perf_counter()
        order = generator.integers(0, EXAMPLES, (steps, batch_size))
        for first in range(0, steps, steps_per_call):
            indices = jnp.asarray(order[first : first + steps_per_call])
            carried[0], _ = train(carried[0], *data, indices)
        jax.block_until_ready(carried[0])
        return time.perf_counter() - start

    return advance


def _torch_way(batch_size: int, layout: str) -> Callable[[int], float]:
    cores = machine()["cores"]
    command = (sys.executable, "-m", "adaptax.bench.torch_mnist")
    process: Any = subprocess.Popen(
        [*command, str(batch_size), layout, str(cores)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    if process.stdout.readline() != "ready\n":
        raise RuntimeError("the PyTorch process ended; its message is above.")

    def advance(steps):
        process.stdin.write(f"{steps}\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    return advance
