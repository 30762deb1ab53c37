"""A maze of 10×10 cells in JAX: walk to a goal, on ground where every tenth step slips.

An episode lasts 32 steps or until the goal is reached, after k steps: the return is
0.95^k, and 0 if it is not reached. A step goes up, right, down or left; a wall leaves
the walker where it is. With probability 0.1 a step goes in a random direction.
"""

import jax
import jax.numpy as jnp
import numpy as np

PLAN = (
    "....#.....",
    ".##.#.###.",
    ".#......#.",
    ".#.####.#.",
    "...#..#...",
    "##.#..#.##",
    "......#...",
    ".####...#.",
    ".#....#.#.",
    "...##.#...",
)
SIDE = len(PLAN)
CELLS = SIDE**2
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
ACTIONS = len(MOVES)
STEPS = 32
SLIP = 0.1
DISCOUNT = 0.95

FREE = np.array([place == "." for row in PLAN for place in row])


def _destination(cell: int, move: tuple[int, int]) -> int:
    row, column = divmod(cell, SIDE)
    row, column = row + move[0], column + move[1]
    inside = 0 <= row < SIDE and 0 <= column < SIDE
    there = row * SIDE + column
    return there if inside and FREE[there] else cell


DESTINATIONS = np.array(
    [[_destination(cell, move) for move in MOVES] for cell in range(CELLS)], np.int32
)
"""Where each action leads from each cell, without slipping: (CELLS, ACTIONS)."""


def draw_slips(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Draw where a step slips to: an action, or −1 if it does not slip."""
    slips, directions = jax.random.split(key)
    random = jax.random.randint(directions, shape, 0, ACTIONS)
    return jnp.where(jax.random.bernoulli(slips, SLIP, shape), random, -1)


def walk(cells: jax.Array, actions: jax.Array, slips: jax.Array) -> jax.Array:
    """Return the new cells of walkers in cells (N,), by their actions and slips."""
    actions = jnp.where(slips < 0, actions, slips)
    return jnp.asarray(DESTINATIONS)[cells, actions]


def expected_returns(policy: jax.Array, goal: jax.Array) -> jax.Array:
    """Return the expected return of a policy from each cell, (CELLS,), exactly.

    Args:
        policy: The probabilities of the actions in each cell, (CELLS, ACTIONS).
        goal: The goal's cell.
    """
    slippery = (1 - SLIP) * policy + SLIP / ACTIONS
    return _going_back(goal, lambda after: (slippery * after).sum(-1))


def best_returns(goal: jax.Array) -> jax.Array:
    """Return the largest expected return from each cell, (CELLS,).

    It is that of the best policy, which knows the number of steps left.
    """
    return _going_back(
        goal, lambda after: (1 - SLIP) * after.max(-1) + SLIP * after.mean(-1)
    )


def _going_back(goal, average):
    """Go from the last step to the first; `average` is one over actions, (CELLS, 4)."""
    at_goal = jnp.arange(CELLS) == goal

    def one_step_earlier(_, returns):
        after = average(returns[jnp.asarray(DESTINATIONS)])
        return jnp.where(at_goal, 1.0, DISCOUNT * after)

    last = at_goal.astype(jnp.float32)
    return jax.lax.fori_loop(0, STEPS, one_step_earlier, last)
