"""Time the compiling of every tool, compared with that of a hand-written scan.

The time is in processor seconds, which other processes do not lengthen, until a tool
has the result of a few steps. Nearly all of it is tracing and compiling the programs
that start, train and evaluate the members. It is compared with one jitted `lax.scan`
over the same training step for a single run, and with the `vmap` of that scan over four
runs. The goal is 1.5 times the time of the single run plus 2 s.
"""

import importlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import adaptax
from adaptax.bench.shared.tasks import TASKS, Problem, Task

BY_HAND = "scan by hand"
MAPPED = "vmap of that scan"
NETWORKS = ("mlp", "gru", "transformer", "convolution")
_STEPS = 4


def measure(networks: tuple[str, ...] = NETWORKS) -> list[dict[str, Any]]:
    """Return a row for each network and tool."""
    importlib.import_module("evosax.algorithms")  # so that its import is not timed
    rows = []
    for name in networks:
        task = TASKS[name]
        problem = task.problem()
        seconds = {}
        for label, work in {BY_HAND: _by_hand, MAPPED: _mapped, **TOOLS}.items():
            seconds[label] = _compiling(work, task, problem)
        limit = 1.5 * seconds[BY_HAND] + 2
        rows += [
            {
                "network": name,
                "way": label,
                "compile_s": taken,
                "x_by_hand": taken / seconds[BY_HAND],
                "limit_s": limit,
                "within": taken <= limit,
            }
            for label, taken in seconds.items()
        ]
    return rows


def _compiling(work: Callable[..., Any], *args: Any) -> float:
    """Return the processor seconds of the call, with nothing compiled before."""
    jax.clear_caches()
    start = time.process_time()
    jax.block_until_ready(work(*args))
    return time.process_time() - start


def _by_hand(task: Task, problem: Problem) -> Any:
    return jax.jit(_scan(task, problem))(jax.random.key(0), 1e-3)


def _mapped(task: Task, problem: Problem) -> Any:
    keys = jax.random.split(jax.random.key(0), 4)
    return jax.jit(jax.vmap(_scan(task, problem)))(keys, jnp.geomspace(1e-4, 1e-2, 4))


def _scan(task: Task, problem: Problem) -> Callable[..., Any]:
    def train(key, rate):
        optimizer = optax.adam(rate)
        params = task.init(key)

        def step(carry, key):
            params, state = carry
            size = len(next(iter(problem.train.values())))
            rows = jax.random.randint(key, (problem.batch_size,), 0, size)
            batch = {name: array[rows] for name, array in data.items()}
            loss, gradients = jax.value_and_grad(task.loss)(params, batch, key)
            updates, state = optimizer.update(gradients, state, params)
            return (optax.apply_updates(params, updates), state), loss

        carry = params, optimizer.init(params)
        return jax.lax.scan(step, carry, jax.random.split(key, _STEPS))

    data = {name: jnp.asarray(array) for name, array in problem.train.items()}
    return train


def _trial(task: Task, problem: Problem) -> adaptax.Trial:
    return adaptax.trial(
        task.init,
        task.loss,
        lambda hparams: optax.adam(hparams["learning_rate"]),
        problem.train,
        problem.batch_size,
        has_key=True,
    )


_RATES = {"learning_rate": adaptax.spaces.log_uniform(1e-4, 1e-2)}


def _of_tool(
    tool: Callable[..., Any], *args: Any, **options: Any
) -> Callable[[Task, Problem], Any]:
    def work(task, problem):
        return tool(_trial(task, problem), *args, **options, progress=False)

    return work


TOOLS: dict[str, Callable[[Task, Problem], Any]] = {
    "find_learning_rate": _of_tool(adaptax.find_learning_rate, num_steps=10),
    "sweep": _of_tool(adaptax.sweep, _RATES, samples=4, num_steps=_STEPS),
    "successive_halving": _of_tool(
        adaptax.successive_halving, _RATES, samples=9, num_steps=9
    ),
    "median_stopping": _of_tool(
        adaptax.median_stopping, _RATES, samples=4, num_steps=_STEPS, interval=2
    ),
    "population_based_training": _of_tool(
        adaptax.population_based_training,
        _RATES,
        members=4,
        num_steps=_STEPS,
        interval=2,
    ),
    "branch": _of_tool(
        adaptax.branch, _RATES, stages=2, stage_steps=_STEPS, branches=4
    ),
    "search_schedule": _of_tool(
        adaptax.search_schedule,
        num_steps=_STEPS,
        knots=2,
        population=4,
        generations=2,
        fresh_seeds=2,
    ),
}
