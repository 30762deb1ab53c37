"""Time a sweep of learning rates, adaptax and its peers side by side.

The same networks, batches and optimizer (Optax's Adam) at many rates, in turns. What is
reported is the median over the rounds of the steps per second, those of all members
counted, and the median of the ratios within a round.

The opponents:

* a Python loop with a jitted step, as it is usually written: the batch is taken from a
  NumPy array, and the loss is read at every step;
* the same at its best: the data and the rows of the batch are on the device, the state
  is donated, no loss is read, and one program serves all rates;
* `vmap` and `lax.map` written by hand around `lax.scan`, the latter also in a process
  that has one core;
* eager PyTorch, and Optuna running the Python loop at its best. PyTorch and Optuna come
  with the extra `peers`; without them the rest is measured.

One more row, "arithmetic", is not a sweep: as many operations as the steps have, as
fast as the products of large matrices are here. No sweep can be faster.

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
from adaptax.bench.shared.networks import digit_network
from adaptax.bench.shared.records import report
from adaptax.bench.shared.training import loss_and_accuracy
from adaptax.bench.shared.turns import Process, Seconds, answer, in_turns, times_as_long
from adaptax.bench.sweep import compiling
from adaptax.bench.sweep import torch as torch_sweep
from adaptax.tuning.running.execution import Population
from adaptax.tuning.running.planning import make_plan
from adaptax.tuning.running.programs import TRAIN, Programs

EXAMPLES = 4096
OURS = "adaptax"
USUAL_LOOP = "Python loop, as usual"
LOOP = "Python loop, at its best"
BY_HAND = ("vmap by hand", "lax.map by hand")
ONE_CORE = "lax.map by hand, one core"
ARITHMETIC = "arithmetic"


class Model(NamedTuple):
    """A network to sweep: how many rates of it, and how many steps a turn."""

    init: Callable[[jax.Array], Any]
    loss: Callable[[Any, Any], jax.Array]
    members: int
    batch_size: int
    steps: int


def _mlp(width: int, members: int) -> Model:
    def init(key):
        first, second = jax.random.split(key)
        return {
            "first": jax.random.normal(first, (784, width)) / 28,
            "bias": jnp.zeros(width),
            "second": jax.random.normal(second, (width, 10)) / width**0.5,
        }

    def loss(params, batch):
        pixels = batch["images"].reshape(-1, 784).astype(jnp.float32) / 255
        hidden = jax.nn.relu(pixels @ params["first"] + params["bias"])
        return optax.softmax_cross_entropy_with_integer_labels(
            hidden @ params["second"], batch["labels"]
        ).mean()

    return Model(init, loss, members, batch_size=32, steps=50)


def _mnist() -> Model:
    network, init = digit_network()

    def loss(params, batch):
        return loss_and_accuracy(network, params, batch["images"], batch["labels"])[0]

    return Model(init, loss, members=4, batch_size=128, steps=5)


MODELS: dict[str, Callable[[], Model]] = {
    "MLP, 16 units": lambda: _mlp(16, members=64),
    "MLP, 128 units": lambda: _mlp(128, members=16),
    "MNIST network": _mnist,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--rounds", type=int, default=9, help="turns that each takes")
    parser.add_argument("--smoke", action="store_true", help="one turn of two steps")
    parser.add_argument(
        "--part",
        choices=("all", "speed", "compiling"),
        default="all",
        help="steps per second, seconds of compiling, or both",
    )
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> None:
    """Measure every way in turns, and report."""
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

    `train(steps)` trains every member so many steps, and gives the seconds it took;
    `compilations()` counts the training programs so far; `close` ends it.
    """

    train: Callable[[int], float]
    plan: str = ""
    compilations: Callable[[], int | str] = lambda: ""
    close: Callable[[], None] = lambda: None


def _measure(name: str, rounds: int, smoke: bool) -> list[dict[str, Any]]:
    """Let every way take its turn, and give a row for each."""
    model = MODELS[name]()
    steps = 2 if smoke else model.steps
    ways = {
        OURS: _ours(model),
        BY_HAND[0]: _timed(_vmap_by_hand(model)),
        BY_HAND[1]: _timed(_map_by_hand(model)),
        LOOP: _timed(_python_loop(model)),
        USUAL_LOOP: _timed(_usual_loop(model)),
        ARITHMETIC: _arithmetic(model),
    }
    if hasattr(os, "sched_setaffinity"):
        ways[ONE_CORE] = _in_a_process(name, "one-core")
    if importlib.util.find_spec("torch"):
        ways["PyTorch, eager"] = _in_a_process(name, "torch")
    if importlib.util.find_spec("optuna"):
        ways["Optuna, Python loop"] = _timed(_optuna(model))
    turns = {label: partial(way.train, steps) for label, way in ways.items()}
    seconds = in_turns(turns, rounds)
    for way in ways.values():
        way.close()
    work = model.members * steps
    return [
        {"model": name, **_row(label, way, seconds, work)}
        for label, way in ways.items()
    ]


def _row(label: str, way: Way, seconds: Seconds, work: int) -> dict[str, Any]:
    def times(other):
        """Say how many times as fast as another way this one is."""
        return times_as_long(seconds, other, label) if other in seconds else ""

    median = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "way": label,
        "steps_per_s": work / median[label],
        "x_usual_loop": times(USUAL_LOOP),
        "x_best_loop": times(LOOP),
        "x_best_by_hand": times(min(BY_HAND, key=median.__getitem__)),
        "x_one_core": times(ONE_CORE),
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
    """Return the time that the operations of the steps would take in large products."""
    one, rate = _step(model), jnp.float32(1e-3)
    carry = jax.eval_shape(_start(model), rate)
    batch = {name: array[: model.batch_size] for name, array in _data().items()}
    analysis: Any = jax.jit(one).lower(rate, carry, batch).compile().cost_analysis()
    size, products = 1024, 8
    product = jax.jit(lambda x: jax.lax.fori_loop(0, products, lambda _, y: x @ y, x))
    square = jnp.full((size, size), 1 / size)
    large = _timed(lambda steps: product(square)).train

    def train(steps):
        share = steps * model.members * analysis["flops"] / (2 * size**3 * products)
        return share * large(steps)

    return Way(train)


def _rates(model: Model) -> np.ndarray:
    return np.geomspace(1e-4, 1e-2, model.members).astype(np.float32)


def _data() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "images": generator.integers(0, 256, (EXAMPLES, 28, 28), dtype=np.uint8),
        "labels": generator.integers(0, 10, EXAMPLES, dtype=np.int32),
    }


def _ours(model: Model) -> Way:
    """Run the population of `adaptax.sweep`, by the plan that "auto" chooses."""
    trial = adaptax.trial(
        model.init,
        model.loss,
        lambda hparams: optax.adam(hparams["learning_rate"]),
        _data(),
        model.batch_size,
        batches="shared",
    )
    programs = Programs(trial, jax.random.key(0))
    hparams, seeds = {"learning_rate": _rates(model)}, np.zeros(model.members, int)
    plan = make_plan(programs, "auto", hparams, seeds, num_steps=10**6).plan
    population = Population(programs, plan, hparams, seeds)
    before = len(programs.compilations)

    def compilations():
        trained = [c for c in programs.compilations[before:] if c.program is TRAIN]
        return 1 + len(trained)  # one of those that were tried

    return _timed(population.advance)._replace(
        plan=str(plan), compilations=compilations
    )


def _step(model: Model) -> Callable[..., Any]:
    """Return the training step of everyone who writes it by hand."""

    def step(rate, carry, batch):
        params, state = carry
        loss, grads = jax.value_and_grad(model.loss)(params, batch)
        updates, state = optax.adam(rate).update(grads, state, params)
        return (optax.apply_updates(params, updates), state), loss

    return step


def _start(model: Model) -> Callable[[jax.Array], Any]:
    def start(rate):
        params = model.init(jax.random.key(0))
        return params, optax.adam(rate).init(params)

    return start


def _rows(model: Model, generator: np.random.Generator, steps: int) -> np.ndarray:
    """Draw the batches of a turn, the same for all members."""
    return generator.integers(0, EXAMPLES, (steps, model.batch_size))


def _step_on_rows(model: Model) -> Callable[..., Any]:
    """Return the step on some rows of data that are on the device."""
    one = _step(model)

    def step(rate, carry, data, chosen):
        return one(rate, carry, jax.tree.map(lambda array: array[chosen], data))

    return step


def _by_hand(model: Model, train: Callable[..., Any]) -> Callable[[int], Any]:
    """Compile `train(carries, rates, data, rows)`, of all members, and run it."""
    rates, data = jnp.asarray(_rates(model)), jax.tree.map(jnp.asarray, _data())
    generator = np.random.default_rng(0)
    compiled = jax.jit(train, donate_argnums=0)
    carried = [jax.jit(jax.vmap(_start(model)))(rates)]

    def advance(steps):
        rows = _rows(model, generator, steps)
        carried[0], losses = compiled(carried[0], rates, data, rows)
        return losses

    return advance


def _vmap_by_hand(model: Model) -> Callable[[int], Any]:
    together = jax.vmap(_step_on_rows(model), in_axes=(0, 0, None, None))

    def train(carries, rates, data, rows):
        def step(carries, chosen):
            return together(rates, carries, data, chosen)

        return jax.lax.scan(step, carries, rows)

    return _by_hand(model, train)


def _map_by_hand(model: Model) -> Callable[[int], Any]:
    one = _step_on_rows(model)

    def train(carries, rates, data, rows):
        def member(arguments):
            carry, rate = arguments
            return jax.lax.scan(
                lambda carry, chosen: one(rate, carry, data, chosen), carry, rows
            )

        return jax.lax.map(member, (carries, rates))

    return _by_hand(model, train)


def _python_loop(model: Model) -> Callable[[int], Any]:
    data, generator = jax.tree.map(jnp.asarray, _data()), np.random.default_rng(0)
    step = jax.jit(_step_on_rows(model), donate_argnums=1)
    start = jax.jit(_start(model))
    rates = [jnp.asarray(rate) for rate in _rates(model)]  # data: one compilation
    carries = [start(rate) for rate in rates]

    def advance(steps):
        rows = _rows(model, generator, steps)
        for member, rate in enumerate(rates):
            for chosen in rows:
                carries[member], _ = step(rate, carries[member], data, chosen)
        return carries

    return advance


def _usual_loop(model: Model) -> Callable[[int], Any]:
    data, generator, one = _data(), np.random.default_rng(0), _step(model)
    step, start = jax.jit(one), jax.jit(_start(model))
    rates = _rates(model)
    carries = [start(rate) for rate in rates]

    def advance(steps):
        rows = _rows(model, generator, steps)
        curves = []
        for member, rate in enumerate(rates):
            for chosen in rows:
                batch = {name: array[chosen] for name, array in data.items()}
                carries[member], loss = step(rate, carries[member], batch)
                curves.append(float(loss))
        return carries

    return advance


def _optuna(model: Model) -> Callable[[int], Any]:
    """Let Optuna run the Python loop: a study of one trial a rate."""
    optuna = importlib.import_module("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    data, generator = jax.tree.map(jnp.asarray, _data()), np.random.default_rng(0)
    step = jax.jit(_step_on_rows(model), donate_argnums=1)
    begin = jax.jit(_start(model))
    rates = _rates(model).tolist()

    def advance(steps):
        rows = _rows(model, generator, steps)

        def objective(trial):
            rate = jnp.float32(trial.suggest_categorical("rate", rates))
            carry, loss = begin(rate), jnp.inf
            for chosen in rows:
                carry, loss = step(rate, carry, data, chosen)
            return float(loss)

        sampler = optuna.samplers.GridSampler({"rate": rates}, seed=0)
        optuna.create_study(sampler=sampler).optimize(objective, n_trials=len(rates))

    return advance


def _in_a_process(name: str, what: str) -> Way:
    """Run a way in a process of its own."""
    process = Process("adaptax.bench", "sweep", "--worker", name, what)
    return Way(lambda steps: process.work(str(steps)), close=process.close)


def _serve(name: str, what: str) -> None:
    """Be the process of a way."""
    model = MODELS[name]()
    if what == "one-core":  # before JAX starts its threads
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        train = _timed(_map_by_hand(model)).train
    else:
        arguments = (name, model.members, model.batch_size, _data(), _rates(model))
        train = _timed(torch_sweep.make_train(*arguments)).train
    answer(lambda line: train(int(line)))
