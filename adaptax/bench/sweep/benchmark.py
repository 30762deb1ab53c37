"""Time a sweep of learning rates, adaptax and its peers side by side.

Each trains the same networks with the same optimizer (Optax's Adam) at many rates, and
is timed once in every round. The table has the median over the rounds of the steps per
second, counting the steps of all members, and the median of the ratios within a round.

adaptax is timed with its data in memory, and with the same data as a stream, whose
batches are taken from NumPy arrays by a thread. The peers:

* a Python loop with a jitted step, as it is usually written: the batch is taken from a
  NumPy array, and the loss is read at every step;
* an optimized Python loop: the data and the rows of the batch are on the device, the
  state is donated, no loss is read, and one program serves all rates;
* `vmap` and `lax.map` written by hand around `lax.scan`, the latter also in a process
  that has one core;
* eager PyTorch, and Optuna running the optimized Python loop. PyTorch and Optuna need
  the extra `peers`; without them, the others are measured.

The row "arithmetic" is no sweep, but a bound: the time of as many operations as the
steps have, at the speed of products of large matrices.

A second table has the seconds that compiling takes in every tool; see
`adaptax.bench.sweep.compiling`.
"""

import argparse
import importlib
import importlib.util
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import adaptax
from adaptax.bench.shared.arguments import at_least
from adaptax.bench.shared.interleaved import (
    Process,
    Seconds,
    answer,
    median_ratio,
    time_in_rounds,
)
from adaptax.bench.shared.records import report
from adaptax.bench.sweep import compiling
from adaptax.bench.sweep import torch as torch_sweep
from adaptax.bench.sweep.by_hand import (
    first_state,
    map_by_hand,
    optuna_study,
    python_loop,
    train_step,
    usual_loop,
    vmap_by_hand,
)
from adaptax.bench.sweep.models import (
    MODELS,
    Model,
    random_batches,
    random_data,
    swept_rates,
)
from adaptax.tuning.running.execution import Population
from adaptax.tuning.running.planning import make_plan
from adaptax.tuning.running.programs import TRAIN, Programs

OURS = "adaptax"
STREAM = "adaptax, from a stream"
USUAL_LOOP = "Python loop, as usual"
LOOP = "Python loop, at its best"
BY_HAND = ("vmap by hand", "lax.map by hand")
ONE_CORE = "lax.map by hand, one core"
ARITHMETIC = "arithmetic"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument(
        "--rounds", type=at_least(1), default=9, help="measurements of each"
    )
    parser.add_argument("--smoke", action="store_true", help="one round of two steps")
    parser.add_argument(
        "--part",
        choices=("all", "speed", "compiling"),
        default="all",
        help="steps per second, seconds of compiling, or both",
    )
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> None:
    """Measure every way in every round, and report."""
    if arguments.worker:
        _serve(*arguments.worker)
        return
    some = slice(1 if arguments.smoke else None)
    if arguments.part != "compiling":
        rounds = 1 if arguments.smoke else arguments.rounds
        rows = []
        for name in list(MODELS)[some]:
            rows += _measure(name, rounds, arguments.smoke)
        report("sweep", rows, arguments.out)
    if arguments.part != "speed":
        rows = compiling.measure(compiling.NETWORKS[some])
        report("sweep_compiling", rows, arguments.out)


class Way(NamedTuple):
    """A way to run a sweep.

    `train(steps)` trains every member for that many steps, and returns the seconds it
    took; `compilations()` returns the number of training programs compiled so far;
    `close` ends its process.
    """

    train: Callable[[int], float]
    plan: str = ""
    compilations: Callable[[], int | str] = lambda: ""
    close: Callable[[], None] = lambda: None


def _measure(name: str, rounds: int, smoke: bool) -> list[dict[str, Any]]:
    """Time every way, and return a row for each."""
    model = MODELS[name]()
    steps = 2 if smoke else model.steps
    ways = {
        OURS: _ours(model),
        STREAM: _ours(model, streams=True),
        BY_HAND[0]: _timed(vmap_by_hand(model)),
        BY_HAND[1]: _timed(map_by_hand(model)),
        LOOP: _timed(python_loop(model)),
        USUAL_LOOP: _timed(usual_loop(model)),
        ARITHMETIC: _arithmetic(model),
    }
    if hasattr(os, "sched_setaffinity"):
        ways[ONE_CORE] = _in_a_process(name, "one-core")
    if importlib.util.find_spec("torch"):
        ways["PyTorch, eager"] = _in_a_process(name, "torch")
    if importlib.util.find_spec("optuna"):
        ways["Optuna, Python loop"] = _timed(optuna_study(model))
    trains = {label: partial(way.train, steps) for label, way in ways.items()}
    seconds = time_in_rounds(trains, rounds)
    for way in ways.values():
        way.close()
    work = model.members * steps
    return [
        {"model": name, **_row(label, way, seconds, work)}
        for label, way in ways.items()
    ]


def _row(label: str, way: Way, seconds: Seconds, work: int) -> dict[str, Any]:
    def times(other):
        """Return how many times as fast as another way this one is."""
        return median_ratio(seconds, other, label) if other in seconds else ""

    median = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "way": label,
        "steps_per_s": work / median[label],
        "x_usual_loop": times(USUAL_LOOP),
        "x_best_loop": times(LOOP),
        "x_best_by_hand": times(min(BY_HAND, key=median.__getitem__)),
        "x_one_core": times(ONE_CORE),
        "x_arrays": times(OURS),
        "compilations": way.compilations(),
        "plan": way.plan,
    }


def _timed(train: Callable[[int], Any]) -> Way:
    def timed(steps):
        start = time.perf_counter()
        jax.block_until_ready(train(steps))
        return time.perf_counter() - start

    return Way(timed)


def _arithmetic(model: Model) -> Way:
    """Time as many operations as the steps have, in products of large matrices."""
    one, rate = train_step(model), jnp.float32(1e-3)
    carry = jax.eval_shape(first_state(model), rate)
    batch = {name: array[: model.batch_size] for name, array in random_data().items()}
    analysis: Any = jax.jit(one).lower(rate, carry, batch).compile().cost_analysis()
    size, products = 1024, 8
    product = jax.jit(lambda x: jax.lax.fori_loop(0, products, lambda _, y: x @ y, x))
    square = jnp.full((size, size), 1 / size)
    large = _timed(lambda steps: product(square)).train

    def train(steps):
        share = steps * model.members * analysis["flops"] / (2 * size**3 * products)
        return share * large(steps)

    return Way(train)


def _ours(model: Model, streams: bool = False) -> Way:
    """Run the population of `adaptax.sweep` with the plan that "auto" chooses."""
    trial = adaptax.trial(
        model.init,
        model.loss,
        lambda hparams: optax.adam(hparams["learning_rate"]),
        adaptax.stream(random_batches(model)) if streams else random_data(),
        None if streams else model.batch_size,
        batches="shared",
    )
    programs = Programs(trial, jax.random.key(0))
    hparams, seeds = {"learning_rate": swept_rates(model)}, np.zeros(model.members, int)
    plan = make_plan(programs, "auto", hparams, seeds, num_steps=10**6).plan
    population = Population(programs, plan, hparams, seeds)
    before = len(programs.compilations)

    def compilations():
        trained = [c for c in programs.compilations[before:] if c.program is TRAIN]
        return 1 + len(trained)  # the chosen program was compiled while planning

    def train(steps):
        for _ in population.run(steps, pace=steps):
            pass

    return _timed(train if streams else population.advance)._replace(
        plan=str(plan), compilations=compilations, close=programs.close
    )


def _in_a_process(name: str, what: str) -> Way:
    """Run a way in its own process."""
    process = Process("adaptax.bench", "sweep", "--worker", name, what)
    return Way(lambda steps: process.work(str(steps)), close=process.close)


def _serve(name: str, what: str) -> None:
    """Run as the process of a way."""
    model = MODELS[name]()
    if what == "one-core":  # before JAX starts its threads
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        train = _timed(map_by_hand(model)).train
    else:
        arguments = (
            name,
            model.members,
            model.batch_size,
            random_data(),
            swept_rates(model),
        )
        train = _timed(torch_sweep.make_train(*arguments)).train
    answer(lambda line: train(int(line)))
