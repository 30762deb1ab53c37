"""Populations: many rates and seeds of one task and one method in one program.

The rates, their number and the number of steps are arguments of the compiled program.
The rates run one after the other, the seeds of each side by side. The steps run in one
loop, which evaluates the validation loss every few steps.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adaptax.bench.shared.tasks import Problem, Task
from adaptax.bench.tuning.methods import Method

EVERY = 10
"""Steps from one evaluation of the validation loss to the next."""

_VALIDATION_KEY = 7


class Population(NamedTuple):
    """A compiled program for one task, one method and one batch size."""

    program: Callable[..., Any]
    max_rates: int
    compile_seconds: float

    def train(
        self, problem: Problem, rates: Sequence[float], seeds: int, steps: int
    ) -> np.ndarray:
        """Train every rate with every seed.

        Returns:
            The validation losses (rates, seeds, steps / EVERY), after every EVERY
            steps; NaN where not finite.
        """
        return self._run(problem, rates, seeds, steps, judged=True)

    def step_seconds(
        self, problem: Problem, rate: float, seeds: int, steps: int, repeats: int
    ) -> float:
        """Measure the time of a step per seed, without evaluations.

        Returns:
            The median over the repeats, in seconds of processor time, which other
            processes on the machine do not lengthen.
        """
        taken = []
        for _ in range(repeats):
            start = time.process_time()
            self._run(problem, [rate], seeds, steps, judged=False)
            taken.append((time.process_time() - start) / (steps * seeds))
        return float(np.median(taken))

    def _run(self, problem, rates, seeds, steps, judged):
        padded = np.ones(self.max_rates, np.float32)
        padded[: len(rates)] = rates
        chunks = steps // EVERY
        losses = self.program(
            problem.train,
            problem.validation,
            padded,
            np.arange(seeds, dtype=np.uint32),
            np.int32(len(rates)),
            np.int32(chunks),
            np.bool(judged),
        )
        losses = np.asarray(losses, np.float64)[: len(rates), :, :chunks]
        return np.where(np.isfinite(losses), losses, np.nan)


def compile_population(
    task: Task,
    method: Method,
    problem: Problem,
    steps: int,
    seeds: int,
    max_rates: int,
    longest: int,
) -> Population:
    """Compile the program of a task and a method.

    Args:
        task: The task.
        method: The method.
        problem: The problem with the shapes of the data and the batch size.
        steps: The horizon for the method.
        seeds: The number of seeds in a call.
        max_rates: The largest number of rates in a call.
        longest: The largest number of steps in a call.
    """
    size = len(jax.tree.leaves(problem.train)[0])
    chunks = longest // EVERY

    def take_step(rate, train, carry):
        params, state, key, step = carry
        draw, noise = jax.random.split(jax.random.fold_in(key, step))
        rows = jax.random.randint(draw, (problem.batch_size,), 0, size)
        batch = {name: array[rows] for name, array in train.items()}

        def loss(params):
            return task.loss(params, batch, noise)

        value, gradients = jax.value_and_grad(loss)(params)
        updates, state = optimizer_at(rate).update(
            gradients,
            state,
            params,
            value=value,
            grad=gradients,
            value_fn=loss,
            grad_fn=jax.grad(loss),
        )
        return optax.apply_updates(params, updates), state, key, step + 1

    def optimizer_at(rate):
        return optax.with_extra_args_support(method.make(rate, steps))

    def start(rate, seed):
        key = jax.random.key(seed)
        params = task.init(jax.random.fold_in(key, 0xFFFFFFFF))
        return params, optimizer_at(rate).init(params), key, jnp.int32(0)

    def judge(validation, carry):
        params, state, _, _ = carry
        key = jax.random.key(_VALIDATION_KEY)
        return task.loss(method.evaluated(state, params), validation, key)

    def train_one_rate(rate, train, validation, seeds, chunks_to_run, judged):
        def chunk(index, carry):
            runs, losses = carry
            runs = jax.lax.fori_loop(
                0, EVERY, lambda _, runs: jax.vmap(step_one)(runs), runs
            )
            now = jax.lax.cond(
                judged,
                jax.vmap(lambda run: judge(validation, run).astype(jnp.float32)),
                lambda runs: jnp.full(seeds.shape, jnp.nan, jnp.float32),
                runs,
            )
            return runs, losses.at[:, index].set(now)

        def step_one(run):
            return take_step(rate, train, run)

        runs = jax.vmap(lambda seed: start(rate, seed))(seeds)
        losses = jnp.full((len(seeds), chunks), jnp.nan, jnp.float32)
        return jax.lax.fori_loop(0, chunks_to_run, chunk, (runs, losses))[1]

    def program(train, validation, rates, seeds, num_rates, chunks_to_run, judged):
        def one(index, losses):
            curve = train_one_rate(
                rates[index], train, validation, seeds, chunks_to_run, judged
            )
            return losses.at[index].set(curve)

        shape = (len(rates), len(seeds), chunks)
        losses = jnp.full(shape, jnp.nan, jnp.float32)
        return jax.lax.fori_loop(0, num_rates, one, losses)

    begun = time.perf_counter()
    compiled = (
        jax.jit(program)
        .lower(
            problem.train,
            problem.validation,
            np.ones(max_rates, np.float32),
            np.arange(seeds, dtype=np.uint32),
            np.int32(1),
            np.int32(1),
            np.bool(True),
        )
        .compile()
    )
    return Population(compiled, max_rates, time.perf_counter() - begun)
