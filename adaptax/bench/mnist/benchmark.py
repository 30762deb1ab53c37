"""Time a training step of the MNIST network, adaptax and PyTorch side by side.

Every way of running it has the same network, batch size and optimizer (Adam), and is
timed once in every round. The table has the median over the rounds, and the median of
the ratios to PyTorch within a round. PyTorch trains in its own process and needs the
`peers` extra; without it, only adaptax is measured.
"""

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import adaptax
from adaptax.bench.shared.arguments import at_least
from adaptax.bench.shared.interleaved import (
    Process,
    Seconds,
    median_ratio,
    time_in_rounds,
)
from adaptax.bench.shared.networks import DigitNetwork
from adaptax.bench.shared.records import machine, report
from adaptax.bench.shared.training import TrainState, make_train

EXAMPLES = 10_000
BASELINE = "PyTorch, channels_last"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument(
        "--rounds", type=at_least(1), default=9, help="measurements of each"
    )
    parser.add_argument(
        "--steps", type=at_least(1), default=50, help="steps per measurement"
    )
    parser.add_argument("--batch-size", type=at_least(1), default=128)


def run(arguments: argparse.Namespace) -> None:
    """Measure every way in every round, and report."""
    steps, batch_size = arguments.steps, arguments.batch_size
    ways = {
        "adaptax, scan over steps": _jax_way(steps, batch_size),
        "adaptax, one call a step": _jax_way(1, batch_size),
    }
    if importlib.util.find_spec("torch"):
        ways[BASELINE] = _torch_way(batch_size, "channels_last")
        ways["PyTorch, contiguous"] = _torch_way(batch_size, "contiguous")
    else:
        print('PyTorch is not measured; to install it: pip install "adaptax[peers]".')
    work = {name: partial(train, steps) for name, train in ways.items()}
    seconds = time_in_rounds(work, arguments.rounds)
    rows = [_row(name, seconds, steps) for name in ways]
    report("mnist", rows, arguments.out)


def _row(name: str, seconds: Seconds, steps: int) -> dict[str, Any]:
    times = [1000 * taken / steps for taken in seconds[name]]
    row = {
        "way": name,
        "ms_per_step": statistics.median(times),
        "fastest_ms": min(times),
        "slowest_ms": max(times),
    }
    if BASELINE in seconds:
        row["ratio_to_pytorch"] = median_ratio(seconds, name, BASELINE)
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
    cores = str(machine()["cores"])
    process = Process("adaptax.bench.mnist.torch", str(batch_size), layout, cores)
    return lambda steps: process.work(str(steps))
