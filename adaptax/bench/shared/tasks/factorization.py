"""Matrix factorization: complete a matrix of rank 4 from half of its entries.

    loss = mean over the batch's entries (i, j) of (⟨u_i, v_j⟩ − y_ij)²

The data are y = U Vᵀ / 2 + noise, with normal U (60 × 4) and V (40 × 4). The model has
rank 6. It starts near u = v = 0, where the loss is flat.
"""

import jax
import numpy as np

from adaptax.bench.shared.tasks.layers import split_examples
from adaptax.bench.shared.tasks.task import Problem, Task, shrink_batch

ROWS, COLUMNS = 60, 40


def _problem() -> Problem:
    generator = np.random.default_rng(0)
    left, right = generator.normal(size=(ROWS, 4)), generator.normal(size=(COLUMNS, 4))
    matrix = left @ right.T / 2 + 0.1 * generator.normal(size=(ROWS, COLUMNS))
    places = generator.permutation(ROWS * COLUMNS)

    def entries(places):
        row, column = np.divmod(places.astype(np.int32), np.int32(COLUMNS))
        labels = matrix[row, column].astype(np.float32)
        return {"row": row, "column": column, "labels": labels}

    train, validation = split_examples(entries(places[:1600]), 400)
    return Problem(train, validation, entries(places[1600:2000]), batch_size=64)


def _init(key):
    left, right = jax.random.split(key)
    return {
        "left": 0.1 * jax.random.normal(left, (ROWS, 6)),
        "right": 0.1 * jax.random.normal(right, (COLUMNS, 6)),
    }


def _loss(params, batch, key):
    del key
    left = jax.nn.one_hot(batch["row"], ROWS) @ params["left"]
    right = jax.nn.one_hot(batch["column"], COLUMNS) @ params["right"]
    return (((left * right).sum(-1) - batch["labels"]) ** 2).mean()


FACTORIZATION = Task(
    "factorization", 600, _init, _loss, _problem, shrink_batch, "small batch"
)
