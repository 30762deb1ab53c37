"""A policy gradient: REINFORCE with a learnt baseline, in a maze with any goal.

    loss = −mean of (G − V) log π(a) + mean of (G − V)² / 2 − 0.002 entropy of π

G is the return from a step on, and V the network's guess of it, which the first term
takes as constant. The network embeds the walker's cell and the goal's. Every fifth free
cell of the maze is a goal.

What is reported is the regret: the expected return of the best policy minus that of
this one, which is ≥ 0, computed exactly by going back through an episode's steps. Every
pair of start and goal belongs to training, validation or test alone.

Source: Williams (1992), "Simple Statistical Gradient-Following Algorithms for
Connectionist Reinforcement Learning", Machine Learning 8.
"""

import jax
import jax.numpy as jnp
import numpy as np

from adaptax.bench.shared.tasks import Problem, Task
from adaptax.bench.shared.tasks.layers import dense, dense_params
from adaptax.bench.tuning.large_tasks.maze import (
    ACTIONS,
    CELLS,
    DISCOUNT,
    FREE,
    STEPS,
    best_returns,
    draw_slips,
    expected_returns,
    walk,
)

WIDTH = 240
EVERY = 5
ENTROPY = 0.002


def _problem() -> Problem:
    """An example is a goal and where an episode may start, 0 or 1 for each cell."""
    places = np.flatnonzero(FREE).astype(np.int32)[::EVERY]
    generator = np.random.default_rng(0)
    chance = generator.random((len(places), CELLS))
    allowed = FREE[None] & (np.arange(CELLS)[None] != places[:, None])

    def examples(rows, starts):
        return {"goal": places[rows], "starts": starts[rows].astype(np.float32)}

    every = np.arange(len(places))
    return Problem(
        examples(every, allowed & (chance >= 0.2)),
        examples(every, allowed & (chance < 0.1)),
        examples(every, allowed & (chance >= 0.1) & (chance < 0.2)),
        batch_size=8,
    )


def _init(key):
    keys = jax.random.split(key, 5)
    policy = dense_params(keys[3], WIDTH, ACTIONS)
    return {
        "cell": 0.3 * jax.random.normal(keys[0], (CELLS, WIDTH)),
        "goal": 0.3 * jax.random.normal(keys[1], (CELLS, WIDTH)),
        "hidden": dense_params(keys[2], WIDTH, WIDTH),
        # It begins near the uniform policy.
        "policy": policy | {"kernel": 0.1 * policy["kernel"]},
        "baseline": dense_params(keys[4], WIDTH, 1),
    }


def _features(params, cells, goals):
    embedded = jax.nn.relu(params["cell"][cells] + params["goal"][goals])
    return jax.nn.relu(dense(params["hidden"], embedded))


def _logits(params, cells, goals):
    return dense(params["policy"], _features(params, cells, goals))


def _episodes(params, batch, key):
    """Return cells (STEPS + 1, N) and actions (STEPS, N)."""
    goals = batch["goal"]
    start, act, slip = jax.random.split(key, 3)
    starts = jax.random.categorical(start, jnp.log(batch["starts"]))
    # The action whose logit and Gumbel noise are largest is one drawn by the policy.
    noise = jax.random.gumbel(act, (STEPS, len(goals), ACTIONS))

    def step(cells, drawn):
        noise, slips = drawn
        actions = jnp.argmax(_logits(params, cells, goals) + noise, axis=-1)
        after = jnp.where(cells == goals, cells, walk(cells, actions, slips))
        return after, (after, actions)

    slips = draw_slips(slip, (STEPS, len(goals)))
    _, (cells, actions) = jax.lax.scan(step, starts, (noise, slips))
    return jnp.concatenate([starts[None], cells]), actions


def _loss(params, batch, key):
    cells, actions = _episodes(jax.lax.stop_gradient(params), batch, key)
    goals = jnp.broadcast_to(batch["goal"], cells.shape)
    arrived = cells == goals
    steps_left = jnp.cumsum(~arrived[::-1], axis=0)[::-1].astype(jnp.float32)
    returns = jnp.where(arrived[-1:], DISCOUNT**steps_left, 0.0)[:-1]
    cells, goals, walking = cells[:-1], goals[:-1], 1.0 - arrived[:-1]

    features = _features(params, cells, goals)
    guess = dense(params["baseline"], features)[..., 0]
    log_policy = jax.nn.log_softmax(dense(params["policy"], features))
    chosen = (log_policy * jax.nn.one_hot(actions, ACTIONS)).sum(-1)
    entropy = -(jnp.exp(log_policy) * log_policy).sum(-1)
    advantage = jax.lax.stop_gradient(returns - guess)
    losses = (returns - guess) ** 2 / 2 - advantage * chosen - ENTROPY * entropy
    return (walking * losses).sum() / walking.sum()


def _regret(params, examples, key):
    del key
    goals = examples["goal"]
    cells = jnp.broadcast_to(jnp.arange(CELLS), (len(goals), CELLS))
    everywhere = jnp.broadcast_to(goals[:, None], cells.shape)
    policy = jax.nn.softmax(_logits(params, cells, everywhere))
    best = jax.vmap(best_returns)(goals)
    regrets = best - jax.vmap(expected_returns)(policy, goals)
    return (examples["starts"] * regrets).sum() / examples["starts"].sum()


POLICY_GRADIENT = Task(
    "policy_gradient", 2500, _init, _loss, _problem, half="design", measured=_regret
)
