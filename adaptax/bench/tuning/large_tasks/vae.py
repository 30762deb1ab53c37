"""A variational autoencoder of shifted digits at 14×14, in nats per image.

    loss = E_q(z|x)[−log p(x|z)] + KL(q(z|x) ‖ N(0, 1))

Source: Kingma & Welling (2014), "Auto-Encoding Variational Bayes", ICLR; Bernoulli
pixels, 16 latent variables, one draw of z per image.
"""

import functools

import jax
import jax.numpy as jnp

from adaptax.bench.shared.tasks import Task
from adaptax.bench.shared.tasks.layers import dense, dense_params
from adaptax.bench.tuning.large_tasks.shifted_digits import (
    digits_problem,
    halved,
    shifted,
)

PIXELS = 14 * 14
LATENT = 16
ENCODER = (PIXELS, 256, 128, 2 * LATENT)
DECODER = (LATENT, 128, 256, PIXELS)


def _init(key):
    encoder, decoder = jax.random.split(key)
    return {"encoder": _layers(encoder, ENCODER), "decoder": _layers(decoder, DECODER)}


def _layers(key, widths):
    keys = jax.random.split(key, len(widths) - 1)
    sizes = zip(keys, widths[:-1], widths[1:], strict=True)
    return [dense_params(key, inputs, outputs) for key, inputs, outputs in sizes]


def _loss(params, batch, key):
    shift, draw = jax.random.split(key)
    pixels = halved(shifted(batch["images"], shift)).reshape(-1, PIXELS)
    mean, log_scale = jnp.split(_applied(params["encoder"], pixels), 2, axis=-1)
    latent = mean + jnp.exp(log_scale) * jax.random.normal(draw, mean.shape)
    logits = _applied(params["decoder"], latent)
    missed = jax.nn.softplus(logits) - pixels * logits
    divergence = (mean**2 + jnp.exp(2 * log_scale) - 1) / 2 - log_scale
    return jnp.mean(missed.sum(-1) + divergence.sum(-1))


def _applied(layers, hidden):
    *inner, last = layers
    for layer in inner:
        hidden = jax.nn.gelu(dense(layer, hidden))
    return dense(last, hidden)


VAE = Task(
    "vae",
    2500,
    _init,
    _loss,
    functools.partial(digits_problem, 32, 500),
    half="design",
)
