"""The momentum that wrappers are put around, in NumPy and in Optax."""

import numpy as np
import optax


class Momentum:
    """v ← b v + (1 − b) g, and the step −α v."""

    b = 0.9

    def __init__(self, w, learning_rate):
        self.start, self.v = w, np.zeros_like(w)
        self.learning_rate = learning_rate

    def step(self, g):
        self.v = self.b * self.v + (1 - self.b) * g
        return -self.learning_rate * self.v

    def along(self, gradients):
        """Yield the points on the way."""
        w = self.start
        for g in gradients:
            w = w + self.step(g)
            yield w


def momentum_of_optax():
    """Make the momentum that an entry of the catalogue is put around."""
    return optax.chain(optax.scale(1 - 0.9), optax.sgd(0.1, momentum=0.9))
