"""Denoising as diffusion models are trained: predict the noise in shifted digits.

    z = cos(πt/2) x + sin(πt/2) ε,      loss = mean of (ε − network(z, t))²

The pixels x are in [−1, 1], at 14×14; the time t is uniform in [0, 1]. The network is
a residual one of dense layers, whose hidden layers the time shifts.

Source: Ho, Jain & Abbeel (2020), "Denoising Diffusion Probabilistic Models", NeurIPS;
the cosine is that of Nichol & Dhariwal (2021), "Improved Denoising Diffusion
Probabilistic Models", ICML, without their offset.
"""

import functools

import jax
import jax.numpy as jnp

from adaptax.bench.shared.tasks import Task
from adaptax.bench.shared.tasks.layers import dense, dense_params
from adaptax.bench.tuning.large_tasks.blocks import norm
from adaptax.bench.tuning.large_tasks.shifted_digits import (
    digits_problem,
    halved,
    shifted,
)

PIXELS = 14 * 14
WIDTH = 160
HIDDEN = 256
DEPTH = 2
FREQUENCIES = 16


def _init(key):
    keys = jax.random.split(key, DEPTH + 2)
    blocks = {f"block_{index}": _block_params(keys[index]) for index in range(DEPTH)}
    return blocks | {
        "inputs": dense_params(keys[-2], PIXELS, WIDTH),
        "norm": jnp.ones(WIDTH),
        "output": dense_params(keys[-1], WIDTH, PIXELS),
    }


def _block_params(key):
    expand, time, contract = jax.random.split(key, 3)
    return {
        "norm": jnp.ones(WIDTH),
        "expand": dense_params(expand, WIDTH, HIDDEN),
        "time": dense_params(time, 2 * FREQUENCIES, HIDDEN),
        "contract": dense_params(contract, HIDDEN, WIDTH),
    }


def _loss(params, batch, key):
    shift, when, draw = jax.random.split(key, 3)
    pixels = 2 * halved(shifted(batch["images"], shift)).reshape(-1, PIXELS) - 1
    angle = jnp.pi / 2 * jax.random.uniform(when, (len(pixels), 1))
    noise = jax.random.normal(draw, pixels.shape)
    noisy = jnp.cos(angle) * pixels + jnp.sin(angle) * noise
    return jnp.mean((noise - _predicted(params, noisy, angle)) ** 2)


def _predicted(params, noisy, angle):
    phases = angle * jnp.arange(1, FREQUENCIES + 1)[None]
    time = jnp.concatenate([jnp.sin(phases), jnp.cos(phases)], axis=-1)
    hidden = dense(params["inputs"], noisy)
    for index in range(DEPTH):
        layers = params[f"block_{index}"]
        wide = dense(layers["expand"], norm(layers["norm"], hidden))
        wide = jax.nn.silu(wide + dense(layers["time"], time))
        hidden = hidden + dense(layers["contract"], wide)
    return dense(params["output"], norm(params["norm"], hidden))


DENOISING = Task(
    "denoising",
    2500,
    _init,
    _loss,
    functools.partial(digits_problem, 32, 500),
    half="frozen",
)
