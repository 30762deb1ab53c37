"""The equations as plain NumPy loops, slow and obvious, by family and name.

An optimizer's reference takes a starting point (a vector), the gradient of each step
(steps × coordinates), the loss of each step and the arguments of the factory, and gives
the point after each step. One that infers its rate takes a learning rate for all steps
or for each, and gives the point and the rate it had. A schedule's takes a step and
gives the rate. A controller's takes the metric and the gradient of each step and gives
the scale applied at it; one that needs the parameters takes the `first`, from which
it goes along −scale times the gradient. An estimate's is that of an optimizer, namely
of gradient descent with it, and so is a wrapper's, namely of momentum with the wrapper
around it.
"""

from reference import (
    controllers,
    estimates,
    learning_rate_free,
    optimizers,
    schedules,
    wrappers,
)

REFERENCES = {
    "optimizer": {
        **optimizers.REFERENCES,
        **learning_rate_free.REFERENCES,
        **estimates.OPTIMIZERS,
    },
    "schedule": schedules.REFERENCES,
    "controller": controllers.REFERENCES,
    "estimate": estimates.REFERENCES,
    "wrapper": wrappers.REFERENCES,
}
