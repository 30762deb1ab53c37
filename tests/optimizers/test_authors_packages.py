"""The same steps as the authors' own packages, whose traces are stored."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptax

RECORD = json.loads(
    (Path(__file__).parents[1] / "reference" / "wrapper_traces.json").read_text("utf-8")
)
MAKE = {
    "dog": lambda **given: adaptax.gradient_descent(adaptax.dog(**given)),
    "l_dog": lambda **given: adaptax.gradient_descent(adaptax.l_dog(**given)),
    "iterate_average": lambda **given: adaptax.iterate_average(
        adaptax.gradient_descent(0.25), **given
    ),
    "mechanic": lambda **given: adaptax.mechanic(
        adaptax.gradient_descent(0.25), **given
    ),
    "schedule_free_sgd": adaptax.schedule_free_sgd,
    "schedule_free_adamw": adaptax.schedule_free_adamw,
    "schedule_free_radam": adaptax.schedule_free_radam,
}


def tree_of(vector):
    return {"matrix": vector[:6].reshape(3, 2), "vector": vector[6:]}


def vector_of(tree):
    return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(tree)])


def run(optimizer):
    """Go along the gradients of the record; give the points, and those evaluated."""
    problem = {name: jnp.asarray(rows) for name, rows in RECORD["problem"].items()}

    def step(carry, noise):
        w, state = carry
        flat = problem["curvature"] * (vector_of(w) - problem["target"]) + noise
        updates, state = optimizer.update(tree_of(flat), state, w)
        w = optax.apply_updates(w, updates)
        evaluated = adaptax.eval_params(state, w)
        return (w, state), {"points": vector_of(w), "evaluated": vector_of(evaluated)}

    w = tree_of(problem["start"])
    return jax.lax.scan(step, (w, optimizer.init(w)), problem["noise"])[1]


@pytest.mark.parametrize("name", RECORD["traces"])
def test_the_authors_package_makes_the_same_steps(name):
    with jax.enable_x64(True):
        ours = run(MAKE[name](**RECORD["arguments"][name]))
    for kind, theirs in RECORD["traces"][name].items():
        np.testing.assert_allclose(ours[kind], theirs, rtol=2e-6, atol=1e-7)
