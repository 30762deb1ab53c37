"""A gated recurrent unit that predicts the next byte of Python's standard library.

    u, r = sigmoid(W x + U h),      c = tanh(W x + r U h),      h ← u h + (1 − u) c

Source: Cho et al. (2014), "Learning Phrase Representations using RNN
Encoder–Decoder for Statistical Machine Translation", EMNLP; the reset gate multiplies
U h, as in cuDNN and PyTorch.
"""

import functools

import jax
import jax.numpy as jnp

from adaptax.bench.shared.tasks import Task
from adaptax.bench.shared.tasks.layers import cross_entropy, dense, dense_params
from adaptax.bench.tuning.large_tasks.bytes_transformer import text_problem
from adaptax.bench.tuning.large_tasks.python_text import VOCABULARY

CONTEXT = 32
EMBEDDING = 64
WIDTH = 144


def _init(key):
    keys = jax.random.split(key, 4)
    return {
        "bytes": jax.random.normal(keys[0], (VOCABULARY, EMBEDDING)),
        "inputs": dense_params(keys[1], EMBEDDING, 3 * WIDTH),
        "recurrent": dense_params(keys[2], WIDTH, 3 * WIDTH),
        "output": dense_params(keys[3], WIDTH, VOCABULARY),
    }


def _loss(params, batch, key):
    del key
    inputs, labels = batch["bytes"][:, :-1].T, batch["bytes"][:, 1:].T
    embedded = jax.nn.one_hot(inputs, VOCABULARY) @ params["bytes"]
    read = dense(params["inputs"], embedded)  # (T, N, 3 WIDTH)

    def step(hidden, read):
        kept = dense(params["recurrent"], hidden)
        update, reset = jnp.split(
            jax.nn.sigmoid(read[:, : 2 * WIDTH] + kept[:, : 2 * WIDTH]), 2, axis=-1
        )
        candidate = jnp.tanh(read[:, 2 * WIDTH :] + reset * kept[:, 2 * WIDTH :])
        hidden = update * hidden + (1 - update) * candidate
        return hidden, hidden

    _, states = jax.lax.scan(step, jnp.zeros((inputs.shape[1], WIDTH)), read)
    return cross_entropy(dense(params["output"], states), labels)


BYTES_GRU = Task(
    "bytes_gru",
    1500,
    _init,
    _loss,
    functools.partial(text_problem, CONTEXT, 8, 128),
    half="frozen",
)
