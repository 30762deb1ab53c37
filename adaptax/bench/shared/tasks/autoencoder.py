"""A variational autoencoder of the 8×8 digits, in nats per image.

    loss = E_q(z|x)[−log p(x|z)] + KL(q(z|x) ‖ N(0, 1))

Source: Kingma & Welling (2014), "Auto-Encoding Variational Bayes", ICLR; Bernoulli
pixels, four latent variables, one draw of z per image.
"""

import jax
import jax.numpy as jnp

from adaptax.bench.shared.tasks.classifiers import small_digits
from adaptax.bench.shared.tasks.layers import dense, dense_params, split_examples
from adaptax.bench.shared.tasks.task import Problem, Task, rescale_inputs

LATENT = 4


def _problem() -> Problem:
    pixels, _ = small_digits()
    examples = {"inputs": pixels, "pixels": pixels}
    return Problem(*split_examples(examples, 150, 150), batch_size=32)


def _init(key):
    keys = jax.random.split(key, 4)
    return {
        "encode": dense_params(keys[0], 64, 32),
        "latent": dense_params(keys[1], 32, 2 * LATENT),
        "decode": dense_params(keys[2], LATENT, 32),
        "pixels": dense_params(keys[3], 32, 64),
    }


def _loss(params, batch, key):
    hidden = jnp.tanh(dense(params["encode"], batch["inputs"]))
    mean, log_scale = jnp.split(dense(params["latent"], hidden), 2, axis=-1)
    noise = jax.random.normal(key, mean.shape)
    latent = mean + jnp.exp(log_scale) * noise
    logits = dense(params["pixels"], jnp.tanh(dense(params["decode"], latent)))
    missed = jax.nn.softplus(logits) - batch["pixels"] * logits
    divergence = (mean**2 + jnp.exp(2 * log_scale) - 1) / 2 - log_scale
    return jnp.mean(missed.sum(-1) + divergence.sum(-1))


AUTOENCODER = Task(
    "autoencoder", 500, _init, _loss, _problem, rescale_inputs, "inputs × 100"
)
