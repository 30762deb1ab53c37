"""`monitor`: its equations as a NumPy loop, and what is asked of it."""

from conformance.contracts import Contract, Goal
from reference.momentum import Momentum, momentum_of_optax


def reference(w, gradients, values, *, learning_rate):
    """Watch only."""
    return Momentum(w, learning_rate).along(gradients)


CONTRACT = Contract(
    reference,
    optax_twin=momentum_of_optax,
    goals={"quadratic": Goal(200, 1e-2)},
)
