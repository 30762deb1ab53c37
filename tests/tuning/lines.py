"""The trial of the tests: a line through noisy points, by gradient descent."""

import jax
import jax.numpy as jnp
import numpy as np

import adaptax

_GENERATOR = np.random.default_rng(0)
X = _GENERATOR.normal(size=(48, 3)).astype(np.float32)
Y = (X @ np.array([1.0, -2.0, 0.5]) + 0.1 * _GENERATOR.normal(size=48)).astype(
    np.float32
)


DATA = {"x": X, "y": Y}


def line_trial(optimizer=adaptax.gradient_descent, data=DATA, batch_size=8, **options):
    """Make a trial with the hyperparameter `learning_rate`."""

    def loss(w, batch):
        return jnp.mean((batch["x"] @ w - batch["y"]) ** 2)

    return adaptax.trial(
        lambda key: jax.random.normal(key, (3,)),
        loss,
        lambda hparams: optimizer(hparams["learning_rate"]),
        data,
        batch_size,
        **options,
    )
