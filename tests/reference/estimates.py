"""The learning-rate-free estimates, written from their papers in float64.

Each goes along the gradients given from a first point, and gives every point after it.
"""

import numpy as np
from conformance.problems import SHAPES


def dog(w, gradients, values, *, reps_rel, eps):
    """Divide the largest distance from the start by the root of the summed squares."""
    start, distance, total = w, reps_rel * (1 + np.linalg.norm(w)), eps
    for g in gradients:
        distance = max(distance, np.linalg.norm(w - start))
        total += g @ g
        w = w - distance / np.sqrt(total) * g
        yield w


def l_dog(w, gradients, values, *, reps_rel, eps):
    """Do so in each leaf: the matrix, and the scalar that comes last."""
    size = np.prod(SHAPES["matrix"])
    leaves = [
        dog(w[part], gradients[:, part], values, reps_rel=reps_rel, eps=eps)
        for part in (slice(0, size), slice(size, None))
    ]
    for points in zip(*leaves, strict=True):
        yield np.concatenate(points)


def dowg(w, gradients, values, *, reps_rel):
    """Weigh each square by the squared distance that was covered then."""
    start, distance, total = w, reps_rel * (1 + np.linalg.norm(w)), 0.0
    for g in gradients:
        distance = max(distance, np.linalg.norm(w - start))
        total += distance**2 * (g @ g)
        w = w - distance**2 / np.sqrt(total) * g
        yield w


REFERENCES = {
    "dog": dog,
    "dowg": dowg,
    "l_dog": l_dog,
}
