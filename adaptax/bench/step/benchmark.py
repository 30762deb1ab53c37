"""Time a training step with methods that infer their rate, beside Optax's AdamW.

A step is the loss of a batch, its gradient, `update` and `apply_updates` in one jitted
call, with parameters and state donated. The networks are transformers that read bytes,
in float32. All methods are timed once in every round; the table has the median time of
a step, and the median and the quartiles of its ratios to Optax's AdamW.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import adaptax
from adaptax.bench.shared.arguments import at_least
from adaptax.bench.shared.interleaved import time_in_rounds
from adaptax.bench.shared.records import report
from adaptax.bench.shared.tasks import Task
from adaptax.bench.tuning.large_tasks.bytes_transformer import Shape, bytes_task

OPTAX = "optax.adamw"
METHODS: dict[str, Callable[[], Any]] = {
    OPTAX: lambda: optax.adamw(1e-3),
    "optax.contrib.prodigy": lambda: optax.contrib.prodigy(),
    "adamw": lambda: adaptax.adamw(1e-3),
    "iterate_average(adamw)": lambda: adaptax.iterate_average(adaptax.adamw(1e-3)),
    "prodigy": adaptax.prodigy,
    "self_tuning": adaptax.self_tuning,
    "self_tuning, Muon": lambda: adaptax.self_tuning(direction="muon"),
}

_SECONDS = 0.5  # of a measurement


class Model(NamedTuple):
    """A transformer, and the number of windows in a batch."""

    shape: Shape
    batch_size: int


MODELS = {
    "1.0 M, 8 x 64 bytes": Model(Shape(context=64, width=128, depth=5, heads=4), 8),
    "1.0 M, 32 x 64 bytes": Model(Shape(context=64, width=128, depth=5, heads=4), 32),
    "4.8 M, 16 x 128 bytes": Model(Shape(context=128, width=256, depth=6, heads=8), 16),
}
_SMOKE = {"smoke": Model(Shape(context=8, width=8, depth=1, heads=1), 2)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--rounds", type=at_least(2), default=15)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--smoke", action="store_true", help="a run of seconds")


def run(arguments: argparse.Namespace) -> None:
    """Time every method on every model, and report."""
    models = _SMOKE if arguments.smoke else {n: MODELS[n] for n in arguments.models}
    rounds = 2 if arguments.smoke else arguments.rounds
    methods = dict.fromkeys([OPTAX, *arguments.methods])
    rows = []
    for name, model in models.items():
        task = bytes_task(name, model.shape, steps=1, batch_size=model.batch_size)
        for row in _timed(task, list(methods), rounds, arguments.smoke):
            rows.append({"model": name, **row})
    report("step", rows, arguments.out)


class _Steps:
    """Training with one method; calling it trains, and returns the seconds a step."""

    def __init__(self, task: Task, method: str, batch: dict[str, jax.Array]):
        optimizer = METHODS[method]()

        def step(params, opt_state):
            grads = jax.grad(task.loss)(params, batch, jax.random.key(0))
            updates, opt_state = optimizer.update(grads, opt_state, params)
            return optax.apply_updates(params, updates), opt_state

        self._step = jax.jit(step, donate_argnums=(0, 1))
        self._params = task.init(jax.random.key(0))
        self._opt_state = jax.jit(optimizer.init)(self._params)
        self.count = 1

    def __call__(self) -> float:
        start = time.perf_counter()
        for _ in range(self.count):
            self._params, self._opt_state = self._step(self._params, self._opt_state)
        jax.block_until_ready(self._params)
        return (time.perf_counter() - start) / self.count


def _timed(
    task: Task, methods: list[str], rounds: int, smoke: bool
) -> list[dict[str, Any]]:
    problem = task.problem()
    batch = {
        name: jnp.asarray(array[: problem.batch_size])
        for name, array in problem.train.items()
    }
    steps = {method: _Steps(task, method, batch) for method in methods}
    for one in steps.values():
        one()  # compiles
        one.count = 1 if smoke else max(1, round(_SECONDS / one()))
    seconds = time_in_rounds(steps, rounds)
    params = jax.eval_shape(task.init, jax.random.key(0))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    rows = []
    for method, found in seconds.items():
        pairs = zip(found, seconds[OPTAX], strict=True)
        low, middle, high = statistics.quantiles(
            (one / base for one, base in pairs), n=4
        )
        rows.append(
            {
                "parameters": parameters,
                "method": method,
                "ms": 1000 * statistics.median(found),
                "x_adamw": middle,
                "lower_quartile": low,
                "upper_quartile": high,
            }
        )
    return rows
