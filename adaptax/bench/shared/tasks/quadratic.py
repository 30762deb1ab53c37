"""The noisy quadratic, a model of minibatch noise and curvature alone.

    loss = mean over the batch's c of ½ Σ_i h_i (s x_i − c_i)²,   h from 1 to 1e-3

The examples are c = 3 + ε with normal ε, whose mean over the training set is exactly 0.
The loss at c = 3 is, up to a constant, the expected loss over the distribution of c. It
has the minimum 0 and needs no sample, so that validation and test are both this loss.
The held-out variant has the input scale s = 100.

Source: Zhang et al. (2019), "Which Algorithmic Choices Matter at Which Batch Sizes?
Insights From a Noisy Quadratic Model", NeurIPS.
"""

import jax
import jax.numpy as jnp
import numpy as np

from adaptax.bench.shared.tasks.task import Problem, Task, rescale_inputs

DIMENSION = 100


def _problem() -> Problem:
    noise = np.random.default_rng(0).normal(size=(2000, DIMENSION))
    centres = (3 + noise - noise.mean(axis=0)).astype(np.float32)
    scales = np.ones(len(centres), np.float32)
    train = {"inputs": scales, "centres": centres}
    judge = {"inputs": scales[:1], "centres": np.full((1, DIMENSION), 3, np.float32)}
    return Problem(train, judge, judge, batch_size=16)


def _init(key):
    return {"x": jax.random.normal(key, (DIMENSION,))}


def _loss(params, batch, key):
    del key
    curvature = jnp.logspace(0, -3, DIMENSION)
    away = batch["inputs"][:, None] * params["x"][None] - batch["centres"]
    return ((away**2).mean(0) * curvature).sum() / 2


QUADRATIC = Task(
    "quadratic", 400, _init, _loss, _problem, rescale_inputs, "inputs × 100"
)
