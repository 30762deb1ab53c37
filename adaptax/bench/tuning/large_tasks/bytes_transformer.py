"""Transformers that predict the next byte of Python's standard library.

`BYTES_TRANSFORMER` has 0.1 million parameters and a context of 32 bytes. `BYTES_BIG`
has 19 million and a context of 256 bytes: it multiplies in bfloat16, but for the last
layer, and its 4,000 steps need an accelerator.
"""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from adaptax.bench.shared.tasks import Problem, Task
from adaptax.bench.shared.tasks.layers import cross_entropy, dense, dense_params
from adaptax.bench.tuning.large_tasks.blocks import block, block_params, norm
from adaptax.bench.tuning.large_tasks.python_text import (
    VOCABULARY,
    python_text,
    windows,
)


class Shape(NamedTuple):
    """The size of a transformer, and the dtype of its matrix products."""

    context: int
    width: int
    depth: int
    heads: int
    dtype: DTypeLike = jnp.float32


def text_problem(context: int, batch_size: int, held_out: int) -> Problem:
    """Return windows of `context` + 1 bytes, `held_out` each to validate and test."""
    text = python_text()
    return Problem(
        {"bytes": windows(text.train, context + 1)},
        {"bytes": windows(text.validation, context + 1, held_out)},
        {"bytes": windows(text.test, context + 1, held_out)},
        batch_size,
    )


def _init(shape: Shape, key):
    keys = jax.random.split(key, shape.depth + 3)
    blocks = {
        f"block_{index}": block_params(keys[index], shape.width, shape.depth)
        for index in range(shape.depth)
    }
    return blocks | {
        "bytes": 0.3 * jax.random.normal(keys[-3], (VOCABULARY, shape.width)),
        "places": 0.3 * jax.random.normal(keys[-2], (shape.context, shape.width)),
        "norm": jnp.ones(shape.width),
        "output": dense_params(keys[-1], shape.width, VOCABULARY),
    }


def _loss(shape: Shape, params, batch, key):
    del key
    output = params["output"]
    params = jax.tree.map(lambda leaf: leaf.astype(shape.dtype), params)
    inputs, labels = batch["bytes"][:, :-1], batch["bytes"][:, 1:]
    letters = jax.nn.one_hot(inputs, VOCABULARY, dtype=shape.dtype) @ params["bytes"]
    hidden = letters + jnp.broadcast_to(params["places"], letters.shape)
    for index in range(shape.depth):
        hidden = block(params[f"block_{index}"], hidden, shape.heads, causal=True)
    features = norm(params["norm"], hidden).astype(jnp.float32)
    return cross_entropy(dense(output, features), labels)


def bytes_task(
    name: str,
    shape: Shape,
    steps: int,
    batch_size: int,
    half: Literal["design", "frozen"] | None = None,
) -> Task:
    """Return the task of predicting the next byte; see `Task` for the arguments."""
    return Task(
        name,
        steps,
        functools.partial(_init, shape),
        functools.partial(_loss, shape),
        functools.partial(text_problem, shape.context, batch_size, 128),
        half=half,
    )


BYTES_TRANSFORMER = bytes_task(
    "bytes_transformer",
    Shape(context=32, width=64, depth=2, heads=4),
    steps=1500,
    batch_size=8,
    half="design",
)
BYTES_BIG = bytes_task(
    "bytes_big",
    Shape(context=256, width=512, depth=6, heads=8, dtype=jnp.bfloat16),
    steps=4000,
    batch_size=32,
)
