"""A transformer of one block that predicts the next character of a random text.

Source: Vaswani et al. (2017), "Attention Is All You Need", NeurIPS, with the
normalization before each part and a hidden layer twice as wide.
"""

import jax
import jax.numpy as jnp
import numpy as np

from adaptax.bench.shared.tasks.grammar import ALPHABET, write_text
from adaptax.bench.shared.tasks.layers import (
    attend,
    cross_entropy,
    dense,
    dense_params,
    normalized,
)
from adaptax.bench.shared.tasks.task import Problem, Task, corrupt_labels

CONTEXT = 16
WIDTH = 16
HEADS = 2


def _problem() -> Problem:
    def windows(length, seed):
        text = write_text(length, seed)
        cut = np.lib.stride_tricks.sliding_window_view(text, CONTEXT + 1)[::5]
        return {"inputs": cut[:, :-1].copy(), "labels": cut[:, 1:].copy()}

    parts = windows(20_000, 0), windows(330, 1), windows(330, 2)
    return Problem(*parts, batch_size=8)


def _init(key):
    keys = jax.random.split(key, 7)
    return {
        "letters": 0.3 * jax.random.normal(keys[0], (len(ALPHABET), WIDTH)),
        "places": 0.3 * jax.random.normal(keys[1], (CONTEXT, WIDTH)),
        "attention": dense_params(keys[2], WIDTH, 3 * WIDTH),
        "mixing": dense_params(keys[3], WIDTH, WIDTH),
        "expand": dense_params(keys[4], WIDTH, 2 * WIDTH),
        "contract": dense_params(keys[5], 2 * WIDTH, WIDTH),
        "output": dense_params(keys[6], WIDTH, len(ALPHABET)),
    }


def _loss(params, batch, key):
    del key
    letters = jax.nn.one_hot(batch["inputs"], len(ALPHABET)) @ params["letters"]
    hidden = letters + jnp.broadcast_to(params["places"], letters.shape)
    attended = attend(
        dense(params["attention"], normalized(hidden)), HEADS, causal=True
    )
    hidden = hidden + dense(params["mixing"], attended)
    wide = jax.nn.relu(dense(params["expand"], normalized(hidden)))
    hidden = hidden + dense(params["contract"], wide)
    logits = dense(params["output"], normalized(hidden))
    return cross_entropy(logits, batch["labels"])


TRANSFORMER = Task(
    "transformer", 400, _init, _loss, _problem, corrupt_labels, "label noise"
)
