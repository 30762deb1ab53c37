"""`l_dog`: its equations as a NumPy loop, and what is asked of it."""

import numpy as np
from conformance.contracts import Contract, Goal
from conformance.problems import MATRIX, SCALAR
from test_dog import reference as dog


def reference(w, gradients, values, *, reps_rel, eps):
    """Do so in each leaf: the matrix, and the scalar that comes last."""
    leaves = [
        dog(w[part], gradients[:, part], values, reps_rel=reps_rel, eps=eps)
        for part in (MATRIX, SCALAR)
    ]
    for points in zip(*leaves, strict=True):
        yield np.concatenate(points)


CONTRACT = Contract(
    reference,
    by_leaf=True,
    breaks={"learning_rate": "each leaf has a rate of its own"},
    goals={"quadratic": Goal(200, 1e-2)},
)
